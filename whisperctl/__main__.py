"""Entry of the console script and of `python -m whisperctl`."""

from __future__ import annotations

import os
import sys
import traceback


def _own_fault(error: Exception) -> None:
    """What nobody foresaw: one sentence, and where it was for whoever asks."""
    if os.environ.get("WHISPERCTL_DEBUG"):
        traceback.print_exc()
        where = ""
    else:
        where = " (WHISPERCTL_DEBUG=1 shows where)"
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    sys.stderr.write(f"whisperctl: this is a fault of whisperctl itself: {reason}{where}\n")


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
        except BrokenPipeError:  # whoever read our output has gone, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except Exception as error:  # noqa: BLE001  the outermost boundary
            _own_fault(error)
            sys.exit(1)
    except KeyboardInterrupt:  # while imports run, or a result is printed
        sys.exit(130)


if __name__ == "__main__":
    main()
