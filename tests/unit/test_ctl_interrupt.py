"""Ctrl-C in `whisperctl stream`: a real process, a real SIGINT, a scripted server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.browser.scripted import LINES, TOKEN, Scripted, scripted_stack
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "tests" / "speech" / "train.wav"
RECORDER = """#!{python}
import sys, time
while True:
    sys.stdout.buffer.write(bytes(3200))
    sys.stdout.flush()
    time.sleep(0.1)
"""


@contextlib.contextmanager
def streaming(server: Scripted, *arguments: str, path: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, "WHISPERCTL_URL": server.http_url, "WHISPERCTL_TOKEN": TOKEN, "WHISPERCTL_CA": ""}
    if path is not None:
        env["PATH"] = f"{path}:{env['PATH']}"
    command = [sys.executable, "-m", "whisperctl", "stream", "--json", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], timeout: float) -> tuple[int, dict[str, Any], str]:
    """Exit code, report and what a person reads."""
    out, err = process.communicate(timeout=timeout)
    assert "Traceback" not in err, err
    assert "never" not in err, err  # no task left behind
    return process.returncode, json.loads(out), err


def test_the_first_one_ends_the_audio_and_brings_the_last_words() -> None:
    with scripted_stack() as server, streaming(server, str(CLIP)) as process:
        wait_until(lambda: server.seconds > 2.5, 30, "audio to arrive")
        process.send_signal(signal.SIGINT)
        code, report, err = ended(process, 15)
        assert code == 130
        assert server.ended
        assert server.seconds < 6, "nothing is read after it"
        assert report["transcript"] == " ".join(text for start, _, text in LINES if start < server.seconds)
        assert (report["lost_seconds"], report["problem"], report["close_code"]) == (0.0, None, 1000)
        assert "Ctrl-C again leaves at once" in err
        assert not server.session_open


def test_while_the_gpu_wakes_what_was_said_is_written_later() -> None:
    with scripted_stack(Scripted(held=True)) as server, streaming(server, str(CLIP)) as process:
        wait_until(lambda: server.count("GET", "/v1/sessions/s-1") > 30, 30, "the file to be read for a while")
        process.send_signal(signal.SIGINT)
        stderr = process.stderr
        assert stderr is not None
        wait_until(lambda: "finishing" in stderr.readline(), 10, "its answer")
        server.held = False
        code, report, _ = ended(process, 15)
        assert code == 130
        assert report["transcript"].startswith(LINES[0][2][:3])
        assert report["lost_seconds"] == 0.0
        assert not server.session_open


def test_the_second_one_leaves_at_once_and_says_what_was_lost() -> None:
    with scripted_stack(Scripted(silent=True, progress=False)) as server, streaming(server, str(CLIP)) as process:
        wait_until(lambda: server.seconds > 1, 30, "audio to arrive")
        process.send_signal(signal.SIGINT)
        wait_until(lambda: server.ended, 10, "the end of the audio")
        process.send_signal(signal.SIGINT)
        code, report, err = ended(process, 6)
        assert code == 130
        assert report["problem"] == "interrupted"
        assert report["lost_seconds"] > 0.9
        assert "not confirmed: interrupted" in err
        assert not server.session_open


def test_a_server_that_never_confirms_is_not_awaited_for_long() -> None:
    with scripted_stack(Scripted(silent=True)) as server, streaming(server, str(CLIP)) as process:
        wait_until(lambda: server.seconds > 1, 30, "audio to arrive")
        process.send_signal(signal.SIGINT)
        code, report, _ = ended(process, 40)
        assert code == 4
        assert "without confirming" in report["problem"]
        assert not server.session_open


def test_a_file_sent_at_once_is_cut_where_it_is() -> None:
    with scripted_stack(Scripted(held=True)) as server, streaming(server, str(CLIP), "--pace", "max") as process:
        wait_until(lambda: server.count("GET", "/v1/sessions/s-1") > 3, 30, "polls")
        process.send_signal(signal.SIGINT)
        code, report, _ = ended(process, 10)
        assert (code, report["transcript"], report["lost_seconds"]) == (130, "", 0.0)
        assert not server.session_open


def test_for_a_microphone_it_is_the_usual_end(tmp_path: Path) -> None:
    recorder = tmp_path / "arecord"
    recorder.write_text(RECORDER.format(python=sys.executable))
    recorder.chmod(0o755)
    with scripted_stack() as server, streaming(server, "--mic", path=tmp_path) as process:
        wait_until(lambda: server.seconds > 1, 30, "audio to arrive")
        process.send_signal(signal.SIGINT)
        code, report, _ = ended(process, 15)
        assert code == 0
        assert report["lost_seconds"] == 0.0
        assert not server.session_open


def test_another_verb_ends_with_130_too() -> None:
    with scripted_stack() as server:
        env = {**os.environ, "WHISPERCTL_URL": server.http_url, "WHISPERCTL_TOKEN": TOKEN, "WHISPERCTL_CA": ""}
        command = [sys.executable, "-m", "whisperctl", "wake", "--wait"]
        with subprocess.Popen(
            command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            wait_until(lambda: server.count("GET", "/v1/status") > 1, 30, "its polls")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in err
