"""`whisperctl stream` against a scripted server: words, report and exit codes."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.browser.scripted import LINES, TICKET, TOKEN, Break, Scripted, scripted_stack
from whisperctl.audio import decode_file
from whisperctl.cli import cli

CLIP = Path(__file__).parents[1] / "speech" / "train.wav"
EVERYTHING = " ".join(text for _, _, text in LINES)


def stream(server: Scripted, *arguments: str, token: str = TOKEN) -> Result:
    return CliRunner().invoke(
        cli,
        ["stream", "--url", server.http_url, "--pace", "max", *arguments],
        env={"WHISPERCTL_TOKEN": token, "WHISPERCTL_URL": "", "WHISPERCTL_CA": ""},
    )


def report(result: Result) -> dict[str, Any]:
    return dict(json.loads(result.stdout))


def test_words_and_report_and_every_sample() -> None:
    with scripted_stack() as server:
        result = stream(server, str(CLIP), "--json", "--ref", EVERYTHING)
    assert result.exit_code == 0, result.output
    said = report(result)
    assert said["transcript"] == EVERYTHING
    assert said["wer"] == 0.0
    assert said["lost_seconds"] == 0.0
    assert said["close_code"] == 1000
    assert said["reconnects"] == 0
    assert 0 < said["ready_s"] <= said["first_word_s"]
    assert said["final_after_end_s"] is not None
    assert [segment["text"] for segment in said["segments"]] == [text for _, _, text in LINES]
    assert bytes(server.audio) == decode_file(CLIP).tobytes(), "every sample once, in order"
    assert server.longest_frame <= 8000
    assert server.offered == [["bearer", TICKET]]
    assert not server.session_open
    assert len(server.idempotency_keys) == 1


def test_plain_output_is_the_words_line_by_line() -> None:
    with scripted_stack() as server:
        result = stream(server, str(CLIP))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [text for _, _, text in LINES]
    assert "\033" not in result.stdout + result.stderr
    assert "0.0 s lost" in result.stderr
    assert TOKEN not in result.output
    assert TICKET not in result.output


def test_audio_counts_from_the_start_while_the_gpu_wakes() -> None:
    with scripted_stack(Scripted(waking=["waking.boot"] * 20)) as server:
        result = stream(server, str(CLIP), "--json", "--pace", "20")
    assert result.exit_code == 0
    assert bytes(server.audio) == decode_file(CLIP).tobytes()


@pytest.mark.parametrize("code", [4400, 4401, 4410, 4412])
def test_a_final_refusal_is_3_and_not_tried_again(code: int) -> None:
    with scripted_stack(Scripted(refuse=[(code, "no, and here is why")])) as server:
        result = stream(server, str(CLIP))
    assert result.exit_code == 3
    assert "no, and here is why" in result.stderr
    assert len(server.offered) == 1
    assert not server.session_open


def test_a_full_or_restarting_server_is_tried_again() -> None:
    with scripted_stack(Scripted(refuse=[(1013, "full"), (1012, "restart")])) as server:
        result = stream(server, str(CLIP), "--json")
    assert result.exit_code == 0
    assert len(server.offered) == 3
    assert report(result)["transcript"] == EVERYTHING


def test_a_stream_cut_in_the_middle_is_connected_again_and_loses_nothing() -> None:
    with scripted_stack(Scripted(breaks=[Break(3.0, down_s=0.5)])) as server:
        result = stream(server, str(CLIP), "--json", "--pace", "5")
    assert result.exit_code == 0, result.output
    said = report(result)
    assert (said["reconnects"], said["lost_seconds"], said["problem"]) == (1, 0.0, None)
    assert said["transcript"] == EVERYTHING
    assert bytes(server.audio) == decode_file(CLIP).tobytes()
    assert server.wrong == []


def test_a_stream_taken_over_in_the_middle_is_4_with_what_was_lost() -> None:
    with scripted_stack(Scripted(breaks=[Break(3.0, "close", 4412, "taken over")])) as server:
        result = stream(server, str(CLIP), "--json", "--pace", "5")
    assert result.exit_code == 4
    said = report(result)
    confirmed_s = server.processed / 16000
    assert said["lost_seconds"] == pytest.approx(len(decode_file(CLIP)) / 16000 - confirmed_s, abs=1.0)
    assert said["transcript"] == LINES[0][2]
    assert said["problem"].endswith("taken over")
    assert "not confirmed" in result.stderr


def test_faults_on_purpose_are_reported() -> None:
    with scripted_stack() as server:
        result = stream(
            server, str(CLIP), "--json", "--pace", "3", "--drop-at", "0.5", "--drop-at", "1.5", "--for", "0.3"
        )
    assert result.exit_code == 0, result.output
    said = report(result)
    assert [(fault["kind"], fault["at_s"], fault["for_s"]) for fault in said["faults"]] == [
        ("drop", 0.5, 0.3), ("drop", 1.5, 0.3)
    ]  # fmt: skip
    assert all(0 < fault["live_again_s"] < 3 for fault in said["faults"])
    assert said["reconnects"] == 2
    assert said["transcript"] == EVERYTHING


def test_an_end_without_confirmation_is_4() -> None:
    with scripted_stack(Scripted(end=False, progress=False)) as server:
        result = stream(server, str(CLIP), "--json")
    assert result.exit_code == 4
    assert "without confirming" in report(result)["problem"]


def test_more_than_ten_sentences_in_one_flush_all_arrive() -> None:
    """The server's messages hold the last ten completed segments only."""
    lines = tuple((n * 0.25, n * 0.25 + 0.25, f"Sentence {n}.") for n in range(38))
    with scripted_stack(Scripted(lines=lines, mute=True)) as server:
        result = stream(server, str(CLIP), "--json")
    assert result.exit_code == 0, result.output
    heard = [text for start, _, text in lines if start < server.seconds]
    assert len(heard) > 30
    assert [segment["text"] for segment in report(result)["segments"]] == heard
    assert report(result)["transcript"] == " ".join(heard)


def test_heartbeats_tell_what_was_lost() -> None:
    with scripted_stack(Scripted(breaks=[Break(3.0, "close", 4412, "taken over")])) as server:
        result = stream(server, str(CLIP), "--json", "--pace", "5")
    told = [body["lost_seconds"] for method, path, body in server.requests if path.endswith("/heartbeat")]
    assert told == [report(result)["lost_seconds"]]
    assert told[0] > 0


def test_heartbeats_while_all_is_well_tell_of_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whisperctl.streaming.HEARTBEAT_S", 0.1)
    with scripted_stack() as server:
        result = stream(server, str(CLIP), "--json", "--pace", "10")
    assert result.exit_code == 0, result.output
    told = [body["lost_seconds"] for method, path, body in server.requests if path.endswith("/heartbeat")]
    assert told
    assert set(told) == {0.0}


def test_a_wrong_token_is_3() -> None:
    with scripted_stack() as server:
        result = stream(server, str(CLIP), token="wrong")  # noqa: S106 that is the point
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1] == "whisperctl: The token is unknown or has expired."


def test_nobody_there_is_5() -> None:
    with scripted_stack() as server:
        pass
    result = stream(server, str(CLIP), "--json")
    assert result.exit_code == 5
    assert report(result)["exit_code"] == 5
    assert "nothing listens there" in report(result)["error"]


def test_odd_files_are_2_with_one_sentence(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no audio here")
    empty = tmp_path / "empty.wav"
    with wave.open(str(empty), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
    with scripted_stack() as server:
        for file, words in ((text, "not an audio file"), (empty, "no audio"), (tmp_path, "is a directory"),
                            (tmp_path / "none.wav", "does not exist")):  # fmt: skip
            result = stream(server, str(file))
            assert result.exit_code == 2, file
            assert words in result.stderr
            assert len(result.stderr.splitlines()) == 1
        assert server.requests == [], "nothing may wake the GPU for a file that cannot be read"


def test_neither_file_nor_microphone_and_both_are_2() -> None:
    with scripted_stack() as server:
        assert stream(server).exit_code == 2
        assert stream(server, str(CLIP), "--mic").exit_code == 2


def test_no_recorder_is_2_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whisperctl.audio.shutil.which", lambda _: None)
    with scripted_stack() as server:
        result = stream(server, "--mic")
    assert result.exit_code == 2
    assert "alsa-utils" in result.stderr


def test_the_microphone_is_read_from_the_recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorder that gives the clip as raw s16 and ends: what it gave arrives, sample for sample."""
    with wave.open(str(CLIP)) as source:
        pcm = source.readframes(source.getnframes())
    (tmp_path / "pcm").write_bytes(pcm)
    recorder = tmp_path / "arecord"
    recorder.write_text(f"#!/bin/sh\nexec cat {tmp_path}/pcm\n")
    recorder.chmod(0o755)
    monkeypatch.setattr("whisperctl.audio.shutil.which", lambda name: str(recorder) if name == "arecord" else None)
    with scripted_stack() as server:
        result = stream(server, "--mic", "--json")
    assert result.exit_code == 0, result.output
    heard = np.frombuffer(bytes(server.audio), dtype="<f4")
    assert np.array_equal(heard, (np.frombuffer(pcm, dtype="<i2") / 32768.0).astype("<f4"))


def test_resampling_keeps_the_length(tmp_path: Path) -> None:
    """A stereo file at 44.1 kHz becomes 16 kHz mono of the same duration."""
    tone = (8000 * np.sin(np.arange(44100 * 2) * 2 * np.pi * 440 / 44100)).astype("<i2")
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(44100)
        out.writeframes(np.repeat(tone, 2).tobytes())
    samples = decode_file(path)
    assert abs(len(samples) - 32000) < 32
    assert 0.2 < float(np.abs(samples).max()) < 0.3
