"""WhisperLive's faster-whisper client, subclassed: nothing dropped, nothing lost at the end, final soon.

whisper_live is imported here, so torch's stand-in must be in place before this module is.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time

from faster_whisper.vad import get_speech_timestamps
from websockets.exceptions import ConnectionClosed
from whisper_live import metrics
from whisper_live.backend.faster_whisper_backend import (
    ServeClientFasterWhisper,
)

from gpu_bootstrap import closing, log
from gpu_bootstrap.audio import AudioBuffer, Samples
from gpu_bootstrap.commit import Piece
from gpu_bootstrap.decoder import Decoder, Wishes, pause
from gpu_bootstrap.frames import RATE
from gpu_bootstrap.guard import Guard
from gpu_bootstrap.handshake import Handshake
from gpu_bootstrap.languages import Detection, Language, Remembered
from gpu_bootstrap.recogniser import Heard, Policy, Recogniser
from gpu_bootstrap.timings import Arrivals, Lately
from gpu_bootstrap.voice import Voice
from gpu_bootstrap.windows import LONGEST_S

LIVE_S = 8.0
"""A stream with less than this undecoded is being spoken; one with more catches up, and lets the others go first."""
BACKLOG_S = 15.0
"""The longest stretch of a backlog decoded at once: in longer ones Whisper leaves sentences out."""
SHARED_S = 10.0
"""The longest stretch of a backlog decoded at once while others are served too."""
SIGN_OF_LIFE_S = 2.0
"""A client that hears nothing for longer may take the connection for dead (docs/lossless.md)."""
MOST_BACKLOG_S = 120.0
"""Audio waiting to be decoded beyond which the socket is not read: 7.7 MB; TCP then holds the sender."""


class EdgeClient(ServeClientFasterWhisper):  # type: ignore[misc]  # WhisperLive is untyped
    """One stream: its audio, its decoding thread, its transcript. Made by the server, fed by `add_frames`."""

    def __init__(
        self, guard: Guard, handshake: Handshake, decoder: Decoder, spoken: Remembered, final_s: Lately
    ) -> None:
        self.guard = guard
        self.audio = AudioBuffer()
        self._arrivals = Arrivals()
        self._final_s = final_s
        self._handshake = handshake
        self._decoder = decoder
        self._spoken = spoken
        self._detection = Detection()
        known = spoken.get(guard.sid) if handshake.language is None else None
        known = known if known is not None and known.code in decoder.languages else None
        policy = Policy(
            pause_s=pause(handshake.vad_parameters),
            settled_times=min(3, max(2, handshake.same_output_threshold)),
            vad=handshake.use_vad,
        )
        voice = Voice(handshake.vad_parameters)
        self._recogniser = Recogniser(self.audio, policy, voice.spans, self._decode, known_s=handshake.known_s)
        self._wishes = Wishes(
            language=None,
            task=handshake.task,
            initial_prompt=handshake.initial_prompt,
            hotwords=handshake.hotwords,
            word_timestamps=handshake.word_timestamps,
            no_speech_thresh=handshake.no_speech_thresh,
            vad=handshake.use_vad,
        )
        self._decoded_until = 0.0
        self._partial_shown = False
        self.trans_thread: threading.Thread | None = None
        self.language: str | None = None
        self._told = {"processed_until": 0.0, "decoded_until": 0.0, "decode_s": 0.0}
        self._decode_s = 0.0
        self._said_at = time.monotonic()
        guard.attach(self)
        # Starts the decoding thread and sends SERVER_READY.
        super().__init__(
            guard,
            task=handshake.task,
            language=known.code if known is not None else handshake.language,
            client_uid=handshake.uid,
            model="served",  # WhisperLive judges by the name whether a model is English-only
            initial_prompt=handshake.initial_prompt,
            vad_parameters=handshake.vad_parameters,
            use_vad=handshake.use_vad,
            single_model=True,
            send_last_n_segments=handshake.send_last_n_segments,
            no_speech_thresh=handshake.no_speech_thresh,
            same_output_threshold=handshake.same_output_threshold,
            hotwords=handshake.hotwords,
            word_timestamps=handshake.word_timestamps,
        )
        if known is not None:
            self._tell_language(known)

    # What the connection's thread calls

    def add_frames(self, frame_np: Samples) -> None:
        self.audio.append(frame_np)
        self._arrivals.note(self.audio.received, time.monotonic())

    def wait_for_room(self, timeout_s: float) -> bool:
        """Whether the backlog left room for more audio within `timeout_s` seconds."""
        return self.audio.wait_for_room(MOST_BACKLOG_S, timeout_s)

    def finalize(self) -> None:
        """Decode what is left, send everything completed, and answer END_OF_AUDIO with END.

        A sentence that a restart cuts stays open for a client that comes back with it.
        """
        returns = self.guard.why_closed.returns and not self.guard.ended_by_client
        self.audio.finish(continued=returns and self._handshake.resumes)
        while self.trans_thread is not None and self.trans_thread.is_alive():
            self.trans_thread.join(SIGN_OF_LIFE_S)
            self.sign_of_life()
        if not self.audio.abandoned and self.guard.ended_by_client:
            self._send({"status": "END"})

    def abandon(self) -> None:
        """Nobody wants the rest: the decoding thread ends after the decode it is in."""
        self.audio.abandon()

    def join(self) -> None:
        """Wait for the decode that is under way."""
        if self.trans_thread is not None:
            self.trans_thread.join()

    def cleanup(self) -> None:
        self.abandon()
        super().cleanup()

    # What the decoding thread does

    def speech_to_text(self) -> None:
        try:
            self._work()
        except ConnectionClosed:
            self.abandon()
        except Exception:  # noqa: BLE001 - whatever a decode raises ends this stream only, and says so
            log.error("decode.failed", exc_info=True, sid=self.guard.sid)
            metrics.track_error("transcription")
            self.guard.end(closing.DECODER_FAILED)

    def _work(self) -> None:
        while not self.audio.abandoned:
            self.audio.wait_for_audio(self._recogniser.next_at, 1.0)
            if self._recogniser.over:
                return
            heard = self._recogniser.step(self._slice_s())
            if heard is None or self.audio.abandoned:
                continue
            if heard.decoded_until is not None:
                self._decoded_until = heard.decoded_until
                self._show(heard)
            self._progress()

    def _slice_s(self) -> float:
        """A backlog is decoded in long stretches, and in shorter ones while other streams wait for their turn."""
        return LONGEST_S if self._live else SHARED_S if self._decoder.shared else BACKLOG_S

    @property
    def _live(self) -> bool:
        return self.audio.received - max(self.audio.done, self._decoded_until) <= LIVE_S

    def _decode(self, samples: Samples, final: bool, earlier: str) -> list[Piece]:
        live = self._live
        # The first words have nothing before them to be read by; a backlog has time, and the end but one decode.
        soon = live and self._wishes.vad and not self.audio.finished
        urgent = soon and (not final or bool(self.transcript))
        prompt = " ".join(filter(None, [self._wishes.initial_prompt, earlier.strip()]))
        wishes = dataclasses.replace(self._wishes, language=self.language, initial_prompt=prompt or None)
        began = time.monotonic()
        pieces, info = self._decoder.transcribe(samples, wishes, final=final, live=live, urgent=urgent)
        self._decode_s = time.monotonic() - began
        metrics.track_transcription_latency(self._decode_s)
        if self.language is None and info is not None:
            guess = Language(info.language, info.language_probability)
            voiced_s = sum(span["end"] - span["start"] for span in get_speech_timestamps(samples)) / RATE
            found = self._detection.heard(guess, voiced_s, final=final)
            if found is not None:
                self.language = found.code
                self._spoken.put(self.guard.sid, found)
                self._tell_language(found)
        return pieces

    def _tell_language(self, found: Language) -> None:
        self._send({"language": found.code, "language_prob": round(found.probability, 4)})

    def _show(self, heard: Heard) -> None:
        """Send what has become final, each segment at least once, and the partial."""
        new = [self._segment(piece, heard.base, completed=True) for piece in heard.final]
        partial = [self._segment(piece, heard.base, completed=False) for piece in heard.open]
        metrics.track_audio_processed(self.audio.done - heard.base)
        if not new and not partial and not self._partial_shown:
            return
        most = self.send_last_n_segments
        for at in range(0, max(len(new), 1), most):
            self.transcript.extend(new[at : at + most])
            last = at + most >= len(new)
            segments = self.transcript[-most:] + (partial if last else [])
            if segments:
                self._send({"segments": segments})
        for segment in new + partial:
            metrics.track_segment_emitted(completed=segment["completed"])
        for piece in heard.final:
            came = self._arrivals.when(heard.base + piece.end)
            if came is not None:
                self._final_s.add(time.monotonic() - came)
        self._partial_shown = bool(partial)
        self._trim_transcript()

    def _segment(self, piece: Piece, base: float, *, completed: bool) -> dict[str, object]:
        words = None
        if piece.words is not None:
            words = [
                {
                    **word,
                    "start": f"{base + float(str(word['start'])):.3f}",
                    "end": f"{base + float(str(word['end'])):.3f}",
                }
                for word in piece.words
            ]
        formatted: dict[str, object] = self.format_segment(
            base + piece.start, base + piece.end, piece.text, completed=completed, words=words
        )
        return formatted

    def sign_of_life(self) -> None:
        """Repeat PROGRESS while a decode takes its time: a client must tell a slow host from a dead network.

        What was told last, not what holds now: words that just became final may not be on their way yet.
        """
        if not self.audio.abandoned and time.monotonic() - self._said_at >= SIGN_OF_LIFE_S:
            self._say_progress()

    def _progress(self) -> None:
        # Audio before processed_until gives no further words and need not be sent again after a drop.
        done = self.audio.done
        self._told = {
            "processed_until": round(done, 3),
            "decoded_until": round(max(done, self._decoded_until), 3),
            # The last decode, its turn included: what a client subtracts to see what it waited for besides.
            "decode_s": round(self._decode_s, 3),
        }
        self._say_progress()

    def _say_progress(self) -> None:
        self._said_at = time.monotonic()
        self._send({"status": "PROGRESS", **self._told, "received_until": round(self.audio.received, 3)})

    def _send(self, message: dict[str, object]) -> None:
        self.guard.send(json.dumps({"uid": self.client_uid, **message}))
