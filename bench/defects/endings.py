"""Probes of how streams end, and of what is known of the server meanwhile."""

from __future__ import annotations

import io
import signal
import threading
import time
import urllib.error
import urllib.request
import uuid
import wave
from contextlib import suppress

import numpy as np
from websockets.exceptions import InvalidStatus

from bench.defects.probe import Finding
from bench.peer import RATE, Peer, Samples, clip, found
from bench.servers import Server, token, wait

BLOCKED_S = 0.5


def no_code_no_reason(server: Server) -> Finding:
    """Row 13, on a server that lets in the token "probe" only."""
    bearer = token("probe")
    ends = {}
    try:
        with Peer(server, bearer="nobody-s-token") as stranger:
            ends["a wrong token"] = str(stranger.wait_closed(10))
            refused = False
    except InvalidStatus as error:
        ends["a wrong token"] = f"HTTP {error.response.status_code} before the upgrade, which a browser sees as 1006"
        refused = True
    with Peer(server, bearer=bearer) as peer:
        peer.send("{")
        no_json = peer.wait_closed(10)
        ends["a handshake that is no JSON"] = str(no_json)
    with Peer(server, bearer=bearer) as peer:
        peer.hello()
        peer.wait_ready()
        peer.end()
        ended = peer.wait_closed(20)
        ends["END_OF_AUDIO"] = str(ended)
    same = no_json is None or ended is None or no_json.code == ended.code or not no_json.reason
    return Finding(refused or same, "; ".join(f"{what}: {end}" for what, end in ends.items()))


def no_goodbye(server: Server) -> Finding:
    """Row 14: SIGTERM in the middle of a stream."""
    samples, said = clip("short")
    with Peer(server) as peer:
        peer.hello()
        peer.wait_ready()
        peer.burst(samples)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        closed = peer.wait_closed(30)
        got = found(said, peer.final_words())
    code = server.process.wait(30)
    took = time.monotonic() - began
    return Finding(
        closed is None or closed.code == 1006,
        f"SIGTERM amid a stream: closed {closed}, {got} of {len(said)} words final, exit status {code} after "
        f"{took:.1f} s",
    )


def health_waits(server: Server) -> Finding:
    """Row 17: health is asked for while the server transcribes."""
    samples = np.tile(clip("check")[0], 4)
    # Stock's REST server comes up beside its WebSocket port, and later.
    wait(lambda: server.health() is not None, 60, "its health")
    finished = threading.Event()
    if server.rest_url is not None:
        upload = threading.Thread(target=_upload, args=(server.rest_url, samples, finished), daemon=True)
        upload.start()
        peers = []
        what = "a file of 54 s was transcribed"
    else:
        peers = [Peer(server) for _ in range(4)]
        for peer in peers:
            peer.hello()
            peer.wait_ready()
            peer.burst(samples)
        what = "four streams of 54 s were decoded"
    times: list[float] = []
    began = time.monotonic()
    while time.monotonic() - began < 5 and not finished.is_set():
        asked = time.monotonic()
        server.health()
        times.append(time.monotonic() - asked)
        time.sleep(0.01)  # as often as it may be asked
    for peer in peers:
        peer.connection.close()
    slowest, middle = max(times), float(np.median(times))
    return Finding(
        slowest > BLOCKED_S,
        f"while {what}, /health took {1000 * middle:.0f} ms in the median of {len(times)} and "
        f"{1000 * slowest:.0f} ms at most",
    )


def _upload(url: str, samples: Samples, finished: threading.Event) -> None:
    wav = io.BytesIO()
    with wave.open(wav, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((samples * 32767).astype("<i2").tobytes())
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = head.encode() + wav.getvalue() + f"\r\n--{boundary}--\r\n".encode()
    request = urllib.request.Request(  # noqa: S310  loopback
        f"{url}/v1/audio/transcriptions",
        body,
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    try:
        # Whatever it answers, the transcription is over; that its server is killed meanwhile is the probe's end.
        with (
            suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(request, timeout=120),  # noqa: S310  loopback
        ):
            pass
    finally:
        finished.set()
