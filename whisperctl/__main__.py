"""Entry of the console script and of `python -m whisperctl`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends with 130 and no traceback."""
    from whisperctl.cli import cli

    try:
        cli.main(prog_name="whisperctl", standalone_mode=True)
    except KeyboardInterrupt:  # outside click's own handling, for example while imports run
        sys.exit(130)


if __name__ == "__main__":
    main()
