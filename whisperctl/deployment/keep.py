"""What is taken out of a stack before it goes: its ledger and audit, and its logs, as files on this machine.

The folder's `about.json` says whose it is, when it was whole, and when the stack was gone. A run of `destroy` that
was interrupted in between is gone on with into the same folder: what is still there is written anew, what is gone
already stays as the earlier run wrote it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from whisperctl.deployment.cloud import Cloud, error_code, plainly
from whisperctl.errors import UsageError

PARTITIONS = ("ledger", "events")
"""Of the table. Tokens, keys and the state of the moment are worth nothing without the stack."""
ABOUT = "about.json"


@dataclass(frozen=True, slots=True)
class About:
    """`about.json`: whose folder it is; times in UTC, ISO 8601, null while it has not come to that."""

    stack: str
    account: str
    region: str
    whole_at: str | None = None
    ended_at: str | None = None

    @property
    def place(self) -> tuple[str, str, str]:
        return self.stack, self.account, self.region


def read_about(folder: Path) -> About | None:
    """What the folder says of itself; None where `destroy` did not write it."""
    try:
        held = json.loads((folder / ABOUT).read_text())
        return About(**held)
    except (OSError, ValueError, TypeError):
        return None


def unfinished(beside: Path, stack: str, account: str, region: str) -> Path | None:
    """The newest folder there that an interrupted run for this stack left."""
    found = [
        path.parent
        for path in beside.glob(f"{stack}-kept-*/{ABOUT}")
        if (about := read_about(path.parent)) is not None
        and about.place == (stack, account, region)
        and about.ended_at is None
    ]
    return max(found, default=None)


def check(folder: Path, stack: str, account: str, region: str) -> None:
    """UsageError where a folder is there that is not an interrupted run's for this stack."""
    if not folder.exists():
        return
    about = read_about(folder)
    if about is None or about.place != (stack, account, region) or about.ended_at is not None:
        raise UsageError(f"{folder} is there already: name another one with --keep")


@dataclass(frozen=True)
class Keeper:
    """Writes one folder."""

    cloud: Cloud
    folder: Path
    about: About
    say: Callable[[str], None]

    def keep(self, table: str, log_groups: list[str]) -> None:
        """Write `ledger.jsonl`, `events.jsonl` and a file for each log group, each at once and whole."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._mark(replace(self.about, whole_at=None))
            for name in PARTITIONS:
                if not self._records(table, name):
                    break
            for group in log_groups:
                self._log(group)
            self._mark(replace(self.about, whole_at=_now()))
        except OSError as error:
            raise UsageError(f"{self.folder} cannot be written: {error.strerror}") from None

    def ended(self) -> None:
        """The stack is gone: no later run goes on into this folder."""
        about = read_about(self.folder)
        if about is not None:
            self._mark(replace(about, ended_at=_now()))

    def _mark(self, about: About) -> None:
        part = self.folder / f"{ABOUT}.part"
        part.write_text(json.dumps(asdict(about), indent=1) + "\n")
        part.rename(self.folder / ABOUT)

    def _records(self, table: str, name: str) -> bool:
        """Whether the table is there."""
        path = self.folder / f"{name}.jsonl"
        records = _partition(self.cloud, table, name)
        if records is None:
            found = "an earlier run kept its ledger" if path.exists() else "no ledger to keep"
            self.say(f"the table {table} is gone already: {found}")
            return False
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps(one, ensure_ascii=False, sort_keys=True) + "\n" for one in records))
        part.rename(path)
        self.say(f"kept {len(records)} records of {name}")
        return True

    def _log(self, group: str) -> None:
        path = self.folder / f"{group.strip('/').replace('/', '-')}.jsonl.gz"
        part = path.with_suffix(".part")
        lines = _log(self.cloud, group, part)
        if lines is None:
            part.unlink()
            return
        part.rename(path)
        self.say(f"kept {lines} lines of {group}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _partition(cloud: Cloud, table: str, name: str) -> list[Any] | None:
    """The partition's records; None where the table is gone."""
    from botocore.exceptions import ClientError

    found: list[Any] = []
    with plainly():
        pages = (
            cloud.client("dynamodb")
            .get_paginator("query")
            .paginate(
                TableName=table,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": name}},
                ConsistentRead=True,
            )
        )
        try:
            for page in pages:
                found += [
                    {"key": one["sk"]["S"], **json.loads(one["d"]["S"])} for one in page["Items"] if "d" in one
                ]
        except ClientError as error:
            if error_code(error) == "ResourceNotFoundException":
                return None
            raise
    return found


def _log(cloud: Cloud, group: str, path: Path) -> int | None:
    """Write the group's lines; how many, or None where it is gone."""
    from botocore.exceptions import ClientError

    lines = 0
    with plainly(), gzip.open(path, "wt") as out:
        try:
            for page in cloud.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group):
                for one in page["events"]:
                    at = datetime.fromtimestamp(one["timestamp"] / 1000, UTC).isoformat()
                    out.write(
                        json.dumps({"at": at, "message": one["message"].rstrip("\n")}, ensure_ascii=False) + "\n"
                    )
                    lines += 1
        except ClientError as error:
            if error_code(error) == "ResourceNotFoundException":
                return None
            raise
    return lines
