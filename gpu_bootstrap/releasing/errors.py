"""How a step ends when it does not succeed."""

from __future__ import annotations

EXIT_CODES = """\
exit codes: 0 done or already so, 64 usage, 65 plan, manifest or setting is not as it must be, 69 not to be
downloaded, 70 a script of the release failed and what serves was not touched, 71 it failed and the release before
serves again, 72 it failed and there is none before it or that does not start either, 73 no room on the disk,
75 another run is at work, 76 this command comes too late"""
EX_USAGE, EX_DATA, EX_UNAVAILABLE, EX_FAILED, EX_PUT_BACK, EX_BROKEN, EX_SPACE, EX_BUSY, EX_LATE = (
    64, 65, 69, 70, 71, 72, 73, 75, 76,
)  # fmt: skip


class ReleaseError(Exception):
    """Ends the run with a sentence and an exit code."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
