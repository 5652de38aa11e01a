"""The launcher: starts WhisperLive on this host, `python -m gpu_bootstrap.serve`.

In this order: settings, the health server, torch's stand-in, WhisperLive's import, the model by its hash, loaded
and warmed by one decode, and only then the WebSocket port. SIGTERM: no new streams, NOTICE, the last words, close
1012, exit 0. Whatever prevents serving is one sentence on stderr, `failed` on /health for a moment, and exit 1
(2 when a setting is wrong).
"""

from __future__ import annotations

import errno
import http.client
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from gpu_bootstrap import arenas, health, log, metrics, torch_stub
from gpu_bootstrap.control import ControlFile
from gpu_bootstrap.errors import ConfigurationError, LauncherError
from gpu_bootstrap.names import short_name
from gpu_bootstrap.notify import notify
from gpu_bootstrap.registry import Registry
from gpu_bootstrap.settings import Settings

if TYPE_CHECKING:
    from gpu_bootstrap.server import EdgeServer

FLUSH_S = 20.0
"""Seconds that streams have for their last words on SIGTERM; below the unit's stop timeout."""
SIGNAL_S = 0.1
"""How soon a signal is noticed at the latest."""
FAILED_S = 2.0
"""Seconds that /health goes on saying `failed` before the process ends, so that link.py can report the cause."""


def main() -> int:
    log.configure()
    arenas.limit()  # before the first thread
    try:
        settings = Settings.from_env(os.environ)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the person who started it
        return 2
    return Launcher(settings).run()


class Launcher:
    """The one place that puts the parts together."""

    def __init__(self, settings: Settings) -> None:
        # decoder and with it faster_whisper are imported by host; they do not need torch.
        from gpu_bootstrap.host import Host

        self._settings = settings
        self._stop = threading.Event()
        self._signalled = False
        self._failure: str | None = None
        self._registry = Registry(settings.max_streams)
        self._control = ControlFile(settings.control_file, time.time())
        self._host = Host(settings, self._registry, lambda: self._control.current)

    def run(self) -> int:
        settings = self._settings
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take_signal)
        try:
            health.serve(settings.health_host, settings.health_port, self._host.report)
        except OSError as error:
            return self._fail(_cannot_listen("health", settings.health_host, settings.health_port, error))
        if settings.metrics_port is not None:
            try:
                metrics.serve(settings.metrics_port, self._host.report)
            except OSError as error:
                return self._fail(_cannot_listen("metrics", metrics.LOOPBACK, settings.metrics_port, error))
        self._control.start()
        starter = threading.Thread(target=self._start, name="start", daemon=True)
        starter.start()
        # The kernel may hand a signal to any thread; Python handles it in this one, and only while this one runs.
        while not (self._signalled or self._stop.wait(SIGNAL_S)):
            continue
        self._stop.set()
        if self._failure is not None:
            return self._fail(self._failure)
        notify("STOPPING=1")
        self._host.shut_down("the server restarts")
        quiet = self._registry.wait_until_quiet(FLUSH_S)
        log.info("launcher.stopped", flushed=quiet)
        return 0

    def _take_signal(self, _number: int, _frame: object) -> None:
        # No more than this: it interrupts this thread anywhere, within the event's own lock too.
        self._signalled = True

    def _start(self) -> None:
        """Load and serve; in a thread, so that a signal ends the process whatever is under way."""
        try:
            server = self._load()
            self._serve(server)
        except LauncherError as error:
            self._failure = str(error)
        except Exception as error:  # noqa: BLE001 - a thread's last resort: said on stderr and by the exit code
            log.error("launcher.broken", exc_info=True)
            self._failure = f"the launcher broke: {type(error).__name__}: {error}"
        if self._failure is not None:
            self._host.has_failed(self._failure)
        self._stop.set()

    def _load(self) -> EdgeServer:
        from gpu_bootstrap import models

        settings = self._settings
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            # Hashing reads the file that loading needs next, while Python imports.
            installed = settings.model_path.parent == settings.models_path
            checked = pool.submit(
                models.check, settings.model, settings.model_path, settings.model_sha256, installed=installed
            )
            import ctranslate2

            def float16() -> bool:
                return "float16" in ctranslate2.get_supported_compute_types("cuda")

            torch_stub.install(ctranslate2.get_cuda_device_count, float16)
            from whisper_live.backend.faster_whisper_backend import (
                ServeClientFasterWhisper,
            )

            from gpu_bootstrap.decoder import Decoder
            from gpu_bootstrap.server import EdgeServer
            from gpu_bootstrap.serving import Loaded, Serving

            imported = time.monotonic()
            checked.result()
        devices = ctranslate2.get_cuda_device_count()
        device = models.choose_device(settings.device, settings.compute_type, devices, devices > 0 and float16())
        self._host.device = device
        hashed = time.monotonic()
        model = models.load(settings.model_path, device)
        # WhisperLive takes the model that is here; it would load one at the first stream otherwise.
        ServeClientFasterWhisper.SINGLE_MODEL = model
        log.info(
            "model.ready",
            model=settings.model,
            device=device.name,
            compute_type=device.compute_type,
            import_s=round(imported - began, 2),
            hash_wait_s=round(hashed - imported, 2),
            load_and_warm_s=round(time.monotonic() - hashed, 2),
        )
        shelf = models.shelf(settings.models_path, settings.model, settings.model_path)

        def exchange(old: Loaded, name: str) -> Loaded:
            began = time.monotonic()
            if name != settings.model:
                models.check(name, shelf[name], None, installed=True)
            model = models.exchange(old.decoder.model, shelf[name], device)
            ServeClientFasterWhisper.SINGLE_MODEL = model
            log.info("model.ready", model=name, before=old.name, seconds=round(time.monotonic() - began, 2))
            return Loaded(name, Decoder(model))

        serving = Serving(shelf, Loaded(settings.model, Decoder(model)), exchange)
        self._host.serving = serving
        orders = (self._wished_model, self._model_lost)
        threading.Thread(target=serving.run, args=orders, name="models", daemon=True).start()
        return EdgeServer(settings, self._host, self._registry, self._control, serving)

    def _wished_model(self) -> str | None:
        """The control plane's word."""
        model = self._control.current.model
        return short_name(model) if model else None

    def _model_lost(self, cause: str) -> None:
        self._failure = cause
        self._host.has_failed(cause)
        self._host.shut_down("the server restarts")
        self._stop.set()

    def _serve(self, server: EdgeServer) -> None:
        """Listen until the process ends; raises LauncherError when that is not possible."""
        settings = self._settings
        prober = threading.Thread(target=self._say_when_listening, args=(server,), name="probe", daemon=True)
        prober.start()
        try:
            server.run(
                settings.host,
                port=settings.port,
                backend="faster_whisper",
                faster_whisper_custom_model_path=str(settings.model_path),
                single_model=True,
                # Places and time limits are the registry's and the guard's; WhisperLive counts too late.
                max_clients=10**9,
                max_connection_time=10**9,
                websocket_auth=server.process_request,
            )
        except OSError as error:
            raise LauncherError(_cannot_listen("WebSocket", settings.host, settings.port, error)) from error

    def _say_when_listening(self, server: EdgeServer) -> None:
        """Ready is when a request of our own has come in through the port, past whoever else may hold it."""
        settings = self._settings
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
        while not server.listening.is_set() and not self._stop.is_set():
            connection = http.client.HTTPConnection(host, settings.port, timeout=1)
            try:
                connection.request("GET", server.PROBE_PATH, headers={server.PROBE_HEADER: server.probe_secret})
                connection.getresponse()
            except (OSError, http.client.HTTPException):
                self._stop.wait(0.02)
            finally:
                connection.close()
        if server.listening.is_set():
            self._host.is_ready()
            notify("READY=1")
            log.info("launcher.ready", host=settings.host, port=settings.port)

    def _fail(self, cause: str) -> int:
        self._host.has_failed(cause)
        print(cause, file=sys.stderr, flush=True)  # noqa: T201 - for the person who started it
        self._stop.clear()
        self._stop.wait(FAILED_S)
        return 1


def _cannot_listen(what: str, host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"the {what} port {port} on {host} is taken by another program: stop that one or choose another port"
    return f"the {what} port {port} on {host} cannot be opened: {error.strerror or error}"


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # Streams' threads may be amid a decode; waiting for them could outlast the unit's stop timeout.
    os._exit(status)
