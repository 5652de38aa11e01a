"""WhisperLive's faster-whisper client, subclassed: nothing dropped, nothing lost at the end, final soon.

whisper_live is imported here, so torch's stand-in must be in place before this module is.
"""

from __future__ import annotations

import dataclasses
import json

from websockets.exceptions import ConnectionClosed
from whisper_live import metrics
from whisper_live.backend.faster_whisper_backend import (
    ServeClientFasterWhisper,
)

from gpu_bootstrap import closing, log
from gpu_bootstrap.audio import AudioBuffer, Samples
from gpu_bootstrap.commit import Agreement, Piece
from gpu_bootstrap.decoder import Decoder, Wishes, find_speech, pause
from gpu_bootstrap.frames import RATE
from gpu_bootstrap.guard import Guard
from gpu_bootstrap.handshake import Handshake
from gpu_bootstrap.windows import LONGEST_S, Span, Stretch, gaps, next_stretch

STEP_S = 0.3
"""New audio after which the voice detector listens again: a part of the pause that ends an utterance."""
OPEN_STEP_S = 0.7
"""New audio after which speech that goes on is decoded again."""
SHORTEST_S = 1.0
"""Speech that goes on is decoded from this length on; Whisper makes up words for less."""
WINDOW_S = LONGEST_S + 2.0
LANGUAGE_S = 3.0
"""Speech needed before its detected language is taken for the stream's."""
MOST_BACKLOG_S = 120.0
"""Audio waiting to be decoded beyond which the socket is not read: 7.7 MB; TCP then holds the sender."""


class EdgeClient(ServeClientFasterWhisper):  # type: ignore[misc]  # WhisperLive is untyped
    """One stream: its audio, its decoding thread, its transcript. Made by the server, fed by `add_frames`."""

    def __init__(self, guard: Guard, handshake: Handshake, decoder: Decoder) -> None:
        self.guard = guard
        self.audio = AudioBuffer()
        self._handshake = handshake
        self._decoder = decoder
        self._agreement = Agreement(min(3, max(2, handshake.same_output_threshold)))
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
        guard.attach(self)
        # Starts the decoding thread and sends SERVER_READY.
        super().__init__(
            guard,
            task=handshake.task,
            language=handshake.language,
            client_uid=handshake.uid,
            model=handshake.model,
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

    # What the connection's thread calls

    def add_frames(self, frame_np: Samples) -> None:
        self.audio.append(frame_np)

    def wait_for_room(self, timeout_s: float) -> bool:
        """Whether the backlog left room for more audio within `timeout_s` seconds."""
        return self.audio.wait_for_room(MOST_BACKLOG_S, timeout_s)

    def finalize(self) -> None:
        """Decode what is left, send everything completed, and answer END_OF_AUDIO with END."""
        self.audio.finish()
        self.trans_thread.join()
        if not self.audio.abandoned and self.guard.ended_by_client:
            self._send({"status": "END"})

    def abandon(self) -> None:
        """Nobody wants the rest: the decoding thread ends after the decode it is in."""
        self.audio.abandon()

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
        examined = opened = 0.0  # stream seconds: heard by the voice detector, decoded while speech went on
        while not self.audio.abandoned:
            self.audio.wait_for_audio(examined + STEP_S, 1.0)
            finished = self.audio.finished
            window, base = self.audio.window(WINDOW_S), self.audio.done
            length = len(window) / RATE
            if finished and not length:
                return
            if not finished and base + length < examined + STEP_S:
                continue
            examined = base + length
            more = self.audio.received > examined
            speech = self._speech(window)
            stretch = next_stretch(speech, length, finished=finished and not more, pause_s=self._pause_s)
            if stretch.start:
                self._agreement.reset()
                self.audio.advance(stretch.start)
            if stretch.closed or stretch.full:
                self._decode(window, stretch, speech)
                examined = opened = self.audio.done
            elif stretch.end == stretch.start:
                examined = self.audio.done if more or finished else examined
            elif more:
                examined = base  # the window grows with what waits already; no use in decoding it before
                continue
            elif stretch.end - stretch.start >= SHORTEST_S and examined >= opened + OPEN_STEP_S:
                self._decode(window, stretch, speech)
                opened = examined
            else:
                continue
            self._progress()

    @property
    def _pause_s(self) -> float:
        return pause(self._handshake.vad_parameters)

    def _speech(self, window: Samples) -> list[Span]:
        if not self._handshake.use_vad:
            return [(0.0, len(window) / RATE)] if len(window) else []
        return find_speech(window, self._handshake.vad_parameters)

    def _decode(self, window: Samples, stretch: Stretch, speech: list[Span]) -> None:
        """Decode the stretch, send what became final and what is open, and be done with the final part."""
        samples = window[round(stretch.start * RATE) : round(stretch.end * RATE)]
        length = len(samples) / RATE
        wishes = dataclasses.replace(self._wishes, language=self.language)
        pieces, info = self._decoder.transcribe(samples, wishes, final=stretch.closed or stretch.full)
        if self.language is None and info is not None and (stretch.closed or length >= LANGUAGE_S):
            self.set_language(info)
        if stretch.closed:
            verdict = self._agreement.closed(pieces, length)
        elif stretch.full:
            verdict = self._agreement.full(pieces, length)
        else:
            quiet = gaps(speech, stretch.start, stretch.end) if self._handshake.use_vad else None
            verdict = self._agreement.growing(pieces, length, quiet)
        metrics.track_audio_processed(verdict.done)
        self._decoded_until = self.audio.done + length
        self._show(verdict.final, verdict.open)
        self.audio.advance(verdict.done)

    def _show(self, final: tuple[Piece, ...], still_open: tuple[Piece, ...]) -> None:
        """Send what has become final, each segment at least once, and the partial."""
        base = self.audio.done
        new = [self._segment(piece, base, completed=True) for piece in final]
        partial = [self._partial(still_open, base)] if still_open else []
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

    def _partial(self, pieces: tuple[Piece, ...], base: float) -> dict[str, object]:
        """The open pieces as one: a message carries at most one segment that is not completed."""
        words = [word for piece in pieces for word in piece.words or ()]
        whole = Piece(pieces[0].start, pieces[-1].end, "".join(p.text for p in pieces), tuple(words) or None)
        return self._segment(whole, base, completed=False)

    def _progress(self) -> None:
        # Audio before processed_until gives no further words and need not be sent again after a drop.
        done = self.audio.done
        self._send(
            {
                "status": "PROGRESS",
                "processed_until": round(done, 3),
                "decoded_until": round(max(done, self._decoded_until), 3),
            }
        )

    def _send(self, message: dict[str, object]) -> None:
        self.guard.send(json.dumps({"uid": self.client_uid, **message}))
