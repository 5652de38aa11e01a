"""Typical mistakes of a user of whisperctl: what is typed, the exit code, and words of the sentence that is said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mistake:
    """`{url}` and `{folder}` in `typed` stand for a stack's address and a folder with `prepare`d files."""

    name: str
    typed: str
    code: int
    says: str


MISTAKES = (
    Mistake("a verb that is mistyped", "stats", 2, "No such command 'stats'"),
    Mistake("no stack is known", "status --state-dir {folder}/none", 2, "start one with `whisperctl local`"),
    Mistake("nobody answers there", "status --url http://127.0.0.1:1", 5, "connection refused"),
    Mistake("a token that is old", "status --url {url} --token wle_old", 3, "token"),
    Mistake("a file that is not there", "stream {folder}/talk.mp3", 2, "talk.mp3"),
    Mistake("a file that is no audio", "stream {folder}/notes.txt", 2, "notes.txt"),
    Mistake("a booking without an end", "book --start 2027-01-05T19:00:00Z", 2, "--end TIME or --minutes N"),
    Mistake("a time without its zone", "book --start 2027-01-05T19:00 --minutes 90", 2, "needs its zone"),
    Mistake("an id that is none", "token revoke 000000000000", 2, "whisperctl token list"),
    Mistake("a name for a network", "clients add office", 2, "is not a network"),
    Mistake("an address for a network", "clients add 198.51.100.7/24", 2, "say which of both is meant"),
    Mistake("a stage that cannot be one", "status --stage Prod!", 2, "is not the name of a stage"),
)
OPERATORS_TOKEN_NEEDED = Mistake("a role that is too low", "stop --url {url}", 3, "role operator")


def prepare(folder: Path) -> None:
    """The files that some of them name."""
    (folder / "notes.txt").write_text("no audio in here\n")
