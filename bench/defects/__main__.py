"""Looks for every known defect in stock WhisperLive and in ours, side by side.

    python -m bench.defects [--only 1,5b] [--servers stock,ours] [--write docs/defects.md] [--json found.json]

Exit status 0 when ours has none of them, 1 when it has one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from bench.defects.probe import Finding, Probe
from bench.defects.rows import ROWS, look
from bench.servers import Kind, Server, running

Found = dict[str, dict[Kind, Finding]]
KINDS: tuple[Kind, ...] = ("stock", "ours")


def survey(rows: list[Probe], kinds: list[Kind]) -> Found:
    found: Found = {}
    with ExitStack() as stack:
        shared: dict[Kind, Server] = {}
        broken: dict[Kind, str] = {}
        for kind in kinds:
            try:
                shared[kind] = stack.enter_context(running(kind))
            except (TimeoutError, RuntimeError) as error:
                broken[kind] = f"it does not start: {error}"
        for row in rows:
            found[row.row] = {}
            for kind in kinds:
                began = time.monotonic()
                if kind in broken:
                    found[row.row][kind] = Finding(True, broken[kind])
                    continue
                try:
                    finding = look(row, kind, shared[kind])
                except (TimeoutError, OSError, RuntimeError) as error:
                    finding = Finding(True, f"the probe could not finish: {error}")
                found[row.row][kind] = finding
                verdict = "present" if finding.present else "absent"
                took = time.monotonic() - began
                sys.stderr.write(f"{row.row:>3} {kind:5} {verdict:7} {took:5.1f} s  {finding.evidence}\n")
    return found


def markdown(rows: list[Probe], found: Found) -> str:
    def cell(row: Probe, kind: Kind) -> str:
        finding = found[row.row].get(kind)
        if finding is None:
            return ""
        return f"{'**present**' if finding.present else 'absent'}: {finding.evidence}".replace("|", "\\|")

    lines = [
        "| | defect | stock: what was seen | ours: what was seen | compensation | file |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.row} | {row.defect} | {cell(row, 'stock')} | {cell(row, 'ours')} | {row.compensation} | {row.file} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


BEGIN, END = "<!-- made by `make defects` -->", "<!-- end of what `make defects` made -->"


def put_into(document: Path, made: str) -> None:
    """Replace what stands between the two marks."""
    text = document.read_text()
    head, _, rest = text.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise SystemExit(f"{document} lacks the marks between which the table belongs")
    document.write_text(f"{head}{BEGIN}\n{made}{END}{tail}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="rows, comma separated")
    parser.add_argument("--servers", default="stock,ours")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only else [row.row for row in ROWS]
    rows = [row for row in ROWS if row.row in wanted]
    kinds = [kind for kind in KINDS if kind in options.servers.split(",")]
    if len(rows) != len(set(wanted)) or not kinds:
        parser.error("no such row or server")
    found = survey(rows, kinds)
    made = f"\nWhisperLive {version('whisper-live')}.\n\n{markdown(rows, found)}\n"
    sys.stdout.write(made)
    if options.write:
        put_into(options.write, made)
    if options.json:
        plain = {row: {kind: vars(one) for kind, one in kinds.items()} for row, kinds in found.items()}
        options.json.write_text(json.dumps(plain, indent=1) + "\n")
    return int(any(kinds["ours"].present for kinds in found.values() if "ours" in kinds))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
