"""How fast /health answers while every place of the launcher is decoding.

python -m bench.health [--requests 3000] [--streams 4]
"""

from __future__ import annotations

import argparse
import http.client
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import numpy as np

from bench.measures import percentile
from bench.peer import Peer, clip, silence
from bench.servers import Server, Setup, running

EVERY_S = 0.01


@contextmanager
def speaking(server: Server, streams: int) -> Iterator[None]:
    """So many streams that speak all the time, each a little apart from the others."""
    over = threading.Event()
    spoken = np.concatenate([clip("train")[0], silence(0.7)])

    def speak(peer: Peer, ahead: int) -> None:
        peer.hello()
        peer.wait_ready()
        while not over.is_set() and peer.closed is None:
            peer.speak(np.roll(spoken, ahead), over.is_set)

    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(server)) for _ in range(streams)]
        threads = [
            threading.Thread(target=speak, args=(peer, number * len(spoken) // streams))
            for number, peer in enumerate(peers)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()


def ask(server: Server, requests: int) -> list[float]:
    """Seconds that each of so many requests took, connection included."""
    assert server.health_url is not None
    host = urlsplit(server.health_url).netloc
    took = []
    for _ in range(requests):
        began = time.perf_counter()
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("GET", "/health")
        if connection.getresponse().read()[:1] != b"{":
            raise RuntimeError("no JSON")
        connection.close()
        took.append(time.perf_counter() - began)
        time.sleep(EVERY_S)  # as often as it is asked
    return took


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--streams", type=int, default=4)
    options = parser.parse_args(arguments)
    with running("ours", Setup(places=options.streams)) as server:
        idle = ask(server, options.requests // 10)
        with speaking(server, options.streams):
            ask(server, 100)
            before = server.cpu_s(), time.monotonic()
            busy = ask(server, options.requests)
            used = (server.cpu_s() - before[0]) / (time.monotonic() - before[1])
    for name, took in (("idle", idle), (f"{options.streams} streams", busy)):
        p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
        sys.stdout.write(
            f"{name}: {len(took)} requests, p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms, "
            f"max {1000 * max(took):.1f} ms\n"
        )
    sys.stdout.write(f"the launcher used {used:.2f} processors meanwhile\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
