"""Entry of the console script and of `python -m whisperctl`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends with 130 and no traceback.

    Not in click's standalone mode: there Ctrl-C is 1, as any failure.
    """
    try:
        import click

        from whisperctl.cli import cli

        try:
            sys.exit(cli.main(prog_name="whisperctl", standalone_mode=False))
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(130)
    except KeyboardInterrupt:  # while imports run, or a result is printed
        sys.exit(130)


if __name__ == "__main__":
    main()
