"""The known defects of WhisperLive 0.10.0, in the order of the project's list, each with its probe."""

from __future__ import annotations

from bench.defects import access, endings, words
from bench.defects.probe import Finding, Probe
from bench.servers import Kind, Server, Setup, running

ROWS = (
    Probe(
        "1",
        "one handshake of a wrong type silences every stream of the process for ever",
        "the handshake is checked against a list of names and types before anything is built on it",
        "handshake.py",
        access.poisoned_handshake,
        Setup(),
        slow=True,
    ),
    Probe(
        "2",
        "END_OF_AUDIO does not flush: the last words are lost",
        "finalize() decodes what is left, sends it as final, then END",
        "engine.py",
        words.tail_at_the_end,
    ),
    Probe(
        "3",
        "the limit of clients is checked before the model loads and counted after",
        "a place is given under one lock; who gets none hears WAIT and 1013",
        "registry.py",
        access.more_than_places,
        Setup(places=1),
    ),
    Probe(
        "4",
        "a connection without a handshake stays for ever; who comes back after a drop meets “full”",
        "a time limit (4408); a session's new connection takes the place of its old one (4412)",
        "server.py, registry.py",
        access.silent_connection_and_return,
        Setup(places=1),
        slow=True,
    ),
    Probe(
        "5",
        "more than 45 s of backlog silently drops the oldest 30 s",
        "nothing is dropped; past 120 s the socket is not read, and TCP holds the sender",
        "audio.py, guard.py",
        words.backlog,
        slow=True,
    ),
    Probe(
        "5b",
        "silence is never acknowledged",
        "PROGRESS after every decode and every look of the VAD",
        "engine.py",
        words.unacknowledged_silence,
    ),
    Probe(
        "6",
        "silence is decoded again and again",
        "VAD is on unless the client says otherwise",
        "handshake.py, recogniser.py",
        words.silence_costs,
    ),
    Probe(
        "7",
        "use_vad is one field of the server, shared by all connections",
        "each stream has its own",
        "engine.py",
        access.shared_vad_field,
        Setup(),
        slow=True,
    ),
    Probe(
        "8",
        "a sentence said twice is dropped as a repeat",
        "no text is dropped for being like the one before it",
        "commit.py, context.py",
        words.said_twice,
        slow=True,
    ),
    Probe(
        "9",
        "words become final by their tenth repeat",
        "a pause heard by the VAD makes them final at once",
        "recogniser.py",
        words.slow_to_final,
        slow=True,
    ),
    Probe(
        "10",
        "the model loads inside the first connection",
        "it is loaded and warmed by a decode before the port listens",
        "serve.py, models.py",
        access.model_in_first_stream,
        Setup(),
    ),
    Probe(
        "11",
        "without a fixed model the client names any repository of the hub, or a path on the server",
        "a fixed list of models; another name is served by the loaded one, with a WARNING",
        "handshake.py",
        access.client_names_a_path,
        Setup(any_model=True),
    ),
    Probe(
        "12",
        "int16 sent as float32, NaN, infinity and 1e30 pass without a word",
        "every frame is checked; 4400 with a sentence that says what is wrong",
        "frames.py",
        access.wrong_samples,
        Setup(),
    ),
    Probe(
        "13",
        "every ending is code 1000 without a reason, and a refusal before the upgrade is none a browser can read",
        "accepted first, then closed with a code and a reason",
        "closing.py, server.py",
        endings.no_code_no_reason,
        Setup(access=True),
    ),
    Probe(
        "14",
        "SIGTERM sends no close frame",
        "no new streams, NOTICE, the last words, 1012, exit 0",
        "serve.py",
        endings.no_goodbye,
        Setup(),
    ),
    Probe(
        "15",
        "pages of any origin may stream",
        "the edge lets through listed origins only (and programs, which send none)",
        "edge_bootstrap/Caddyfile",
        access.origin,
        Setup(edge=True),
    ),
    Probe(
        "16",
        "audio sent before SERVER_READY is not read, and neither are pings: the socket dies at 40 s",
        "no port before the model is loaded, so ready comes at once; the client keeps its audio until then",
        "serve.py, guard.py",
        access.audio_ahead_of_ready,
        Setup(slow_model=True),
        slow=True,
    ),
    Probe(
        "17",
        "/health waits while a transcription runs",
        "a health server in a thread of its own",
        "health.py",
        endings.health_waits,
        Setup(rest=True),
    ),
)


def look(probe: Probe, kind: Kind, shared: Server | None = None) -> Finding:
    """The probe's finding on a server of that kind: `shared` where it will do, else one started for it."""
    if probe.setup is None and shared is not None:
        return probe.look(shared)
    with running(kind, probe.setup or Setup()) as server:
        return probe.look(server)
