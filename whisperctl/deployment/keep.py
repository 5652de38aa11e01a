"""What is taken out of a stack before it goes: its ledger and audit, and its logs, as files on this machine."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from whisperctl.deployment.cloud import Cloud, error_code, plainly
from whisperctl.errors import UsageError

PARTITIONS = ("ledger", "events")
"""Of the table. Tokens, keys and the state of the moment are worth nothing without the stack."""


def keep(cloud: Cloud, folder: Path, table: str, log_groups: list[str], say: Callable[[str], None]) -> list[Path]:
    """Write `ledger.jsonl`, `events.jsonl` and a file for each log group; what is gone already is left out.

    The folder is written beside and renamed at the end, so that one that is there is whole.
    """
    part = folder.with_name(f"{folder.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        for name in PARTITIONS:
            records = _partition(cloud, table, name)
            if records is None:
                say(f"the table {table} is gone already: no ledger to keep")
                break
            path = part / f"{name}.jsonl"
            path.write_text(
                "".join(json.dumps(one, ensure_ascii=False, sort_keys=True) + "\n" for one in records)
            )
            say(f"kept {len(records)} records of {name}")
        for group in log_groups:
            lines = _log(cloud, group, part / f"{group.strip('/').replace('/', '-')}.jsonl.gz")
            say(f"kept {lines} lines of {group}")
        if folder.exists():
            raise UsageError(f"{folder} is there already: name another one with --keep")
        part.rename(folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from None
    return sorted(folder.iterdir())


def _partition(cloud: Cloud, table: str, name: str) -> list[Any] | None:
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


def _log(cloud: Cloud, group: str, path: Path) -> int:
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
            if error_code(error) != "ResourceNotFoundException":
                raise
    return lines
