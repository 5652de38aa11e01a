"""Another WhisperLive under the launcher: which seams moved, which tests fail, which defects remain.

    python -m bench.try_whisperlive VERSION [--only seams,tests,defects] [--rows 1,2]

The version is installed beside the pinned one and put before it on PYTHONPATH; nothing of this environment changes.
Exit status 0: an upgrade is safe as far as this can see; 1: something moved, fails or remains; 2: no such version.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.servers import ROOT

SUITE = ("access", "bad_input", "endings", "metrics", "start", "stream")
PARTS = ("seams", "tests", "defects")
ENOUGH = 10
"""After so many failures the suite has said what it has to say."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma separated")
    parser.add_argument("--rows", help="defects to look for, comma separated; default all")
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[0-9][0-9A-Za-z.+!-]*", options.version):
        parser.error("a version begins with a digit, e.g. 0.10.0")
    with tempfile.TemporaryDirectory(prefix="try-whisperlive-") as folder:
        overlay = Path(folder) / "packages"
        if not install(options.version, overlay):
            return 2
        env = os.environ | {"PYTHONPATH": str(overlay)}
        say(f"WhisperLive {options.version} under the launcher\n")
        parts = {"seams": seams, "tests": tests, "defects": defects}
        wrong = [
            part
            for part in PARTS
            if part in options.only.split(",") and not parts[part](env, Path(folder), options.rows)
        ]
    say("safe: nothing moved, nothing fails, no defect remains" if not wrong else f"NOT safe: see {', '.join(wrong)}")
    return int(bool(wrong))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def install(version: str, overlay: Path) -> bool:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--target", str(overlay), f"whisper-live=={version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(f"WhisperLive {version} cannot be installed: {done.stderr.strip().splitlines()[-1]}\n")
        return False
    # Some of its wheels carry their tests at the top level, where ours are looked for.
    shutil.rmtree(overlay / "tests", ignore_errors=True)
    return True


def seams(env: dict[str, str], _folder: Path, _rows: str | None) -> bool:
    done = subprocess.run(
        [sys.executable, "-m", "bench.seams", "--json"], cwd=ROOT, env=env, capture_output=True, text=True
    )
    try:
        found: dict[str, str | None] = json.loads(done.stdout)
    except json.JSONDecodeError:
        say(f"seams: it cannot even be imported: {done.stderr.strip().splitlines()[-1]}\n")
        return False
    moved = [f"  {name}: {how}" for name, how in found.items() if how is not None]
    say("\n".join([f"seams: {len(found) - len(moved)} of {len(found)} hold", *moved]) + "\n")
    return not moved


def tests(env: dict[str, str], _folder: Path, _rows: str | None) -> bool:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=no",
        "-rfE",
        f"--maxfail={ENOUGH}",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-p", "no:cacheprovider"]
    command += [f"tests/bootstrap/test_launcher_{name}.py" for name in SUITE]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    failed = [f"  {line}" for line in lines if line.startswith(("FAILED", "ERROR"))]
    say("\n".join([f"launcher suite: {lines[-1] if lines else done.stderr.strip()}", *failed]) + "\n")
    return done.returncode == 0


def defects(env: dict[str, str], folder: Path, rows: str | None) -> bool:
    file = folder / "defects.json"
    only = ["--only", rows] if rows else []
    done = subprocess.run(
        [sys.executable, "-m", "bench.defects", "--json", str(file), *only],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    if not file.exists():
        say(f"defects: the probes broke: {done.stderr.strip().splitlines()[-1]}\n")
        return False
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(file.read_text())
    stock = [row for row, kinds in found.items() if kinds["stock"]["present"]]
    ours = {row: kinds["ours"]["evidence"] for row, kinds in found.items() if kinds["ours"]["present"]}
    gone = [row for row in found if row not in stock]
    say(f"defects in it as it comes: {', '.join(stock) or 'none'}; no longer: {', '.join(gone) or 'none'}")
    if len(set(ours.values())) == 1 and len(ours) > 1:
        say(f"defects under the launcher: all, {next(iter(ours.values()))}\n")
    else:
        remain = [f"  {row}: {evidence}" for row, evidence in ours.items()]
        say("\n".join([f"defects under the launcher: {', '.join(ours) or 'none'}", *remain]) + "\n")
    return not ours


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
