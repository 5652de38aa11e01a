"""What the launcher relies on in WhisperLive holds in the pinned version, and a seam that moves is noticed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import try_whisperlive

ROOT = Path(__file__).resolve().parents[2]


def seams(before: Path | None = None) -> tuple[int, dict[str, str | None]]:
    env = os.environ | ({"PYTHONPATH": str(before)} if before else {})
    command = [sys.executable, "-m", "bench.seams", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    found: dict[str, str | None] = json.loads(done.stdout)
    return done.returncode, found


def test_every_seam_holds_in_the_pinned_version() -> None:
    status, found = seams()
    assert {name: how for name, how in found.items() if how} == {}
    assert len(found) >= 15
    assert status == 0


SERVER, CLIENT = "server.py", "backend/faster_whisper_backend.py"
CHANGES = {
    "frames come to add_frames": (SERVER, r"client\.add_frames\(frame_np\)", "client.feed(frame_np)"),
    "END_OF_AUDIO calls finalize": (SERVER, r"client\.finalize\(\)", "client.finish()"),
    "run takes our settings": (SERVER, r"\bwebsocket_auth\b", "on_upgrade"),
    "recv, send and close only": (SERVER, r"(frame_data = websocket\.recv\(\))", r"\1; getattr(websocket, 'id', 0)"),
    "SINGLE_MODEL": (CLIENT, r"\bSINGLE_MODEL\b", "SHARED_MODEL"),
    "format_segment": ("backend/base.py", r'"\{:\.3f\}"', '"{:.2f}"'),
    "set_language": (CLIENT, r"self\.language = info\.language", "self.spoken = info.language"),
    "metrics": ("metrics.py", r"def track_segment_emitted\(completed", "def track_segment_emitted(final"),
}


@pytest.mark.slow
@pytest.mark.parametrize("seam", CHANGES)
def test_a_seam_that_moves_is_named(tmp_path: Path, seam: str) -> None:
    spec = find_spec("whisper_live")
    assert spec is not None
    assert spec.origin is not None
    package = tmp_path / "whisper_live"
    shutil.copytree(Path(spec.origin).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    name, old, new = CHANGES[seam]
    changed, count = re.subn(old, new, (package / name).read_text())
    assert count, "the change changes nothing"
    (package / name).write_text(changed)
    status, found = seams(tmp_path)
    assert status == 1
    assert [name for name, how in found.items() if how and seam in name], found


def test_a_version_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        try_whisperlive.main(["latest; rm -rf"])
    assert ended.value.code == 2
    assert "a version begins with a digit" in capsys.readouterr().err
