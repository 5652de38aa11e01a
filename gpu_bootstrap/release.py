#!/usr/bin/env python3
"""One step of a release on this host, as a program: what it does stands in releasing/."""

import sys

if __package__:
    from gpu_bootstrap.releasing.main import main
else:  # run as a program, with the package beside it, or out of the archive
    from releasing.main import main  # type: ignore[import-not-found,no-redef]

if __name__ == "__main__":
    sys.exit(main())
