#!/usr/bin/env python3
"""The host link's program, on the GPU host and on the edge: `link.py [--deadman]`. Settings: hostlink/settings.py."""

import sys

if __package__:
    from gpu_bootstrap.hostlink.main import main
else:  # run as a program, with the package beside it
    from hostlink.main import main  # type: ignore[import-not-found,no-redef]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
