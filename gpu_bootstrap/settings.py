"""The launcher's settings, read once from the environment it is started with."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_bootstrap.errors import ConfigurationError
from gpu_bootstrap.names import NAME, short_name

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Settings:
    """Every field is one environment variable, named in capitals with the prefix `WHISPER_`.

    Raises `ConfigurationError` from `from_env`, with a sentence that names the variable.
    """

    host: str
    """WHISPER_HOST: address the WebSocket listens on; default 0.0.0.0."""
    port: int
    """WHISPER_PORT: its port; default 9090."""
    health_host: str
    """WHISPER_HEALTH_HOST: address of `GET /health`; default as WHISPER_HOST."""
    health_port: int
    """WHISPER_HEALTH_PORT: its port; default 9091."""
    metrics_port: int | None
    """WHISPER_METRICS_PORT: port of Prometheus' /metrics, on 127.0.0.1 only; default 0, none."""
    model: str
    """WHISPER_MODEL: short name of the model that is loaded at start; default tiny.en."""
    models_path: Path | None
    """WHISPER_MODELS_PATH: folder of models, each in a subfolder named as it is; default none."""
    model_path: Path
    """WHISPER_MODEL_PATH: directory of WHISPER_MODEL's model.bin (CTranslate2 form); default that subfolder."""
    model_sha256: str | None
    """WHISPER_MODEL_SHA256: sha256 of model.bin, lower-case hex; needed for models `models.KNOWN` lacks."""
    device: str
    """WHISPER_DEVICE: auto, cpu or cuda; default auto (cuda where there is one)."""
    compute_type: str | None
    """WHISPER_COMPUTE_TYPE: CTranslate2's name, e.g. float16; default int8 on cpu, float16 on cuda."""
    max_streams: int
    """WHISPER_MAX_STREAMS: streams served at once, 1 to 64; default 4."""
    require_ticket: bool
    """WHISPER_REQUIRE_TICKET: whether a stream must show a session's ticket; default true."""
    control_file: Path | None
    """WHISPER_CONTROL_FILE: file in which link.py leaves the control plane's last answer; default none."""
    release: str
    """WHISPER_RELEASE: name of the installed release, reported as it is; default "unknown"."""
    handshake_timeout_s: float
    """WHISPER_HANDSHAKE_TIMEOUT_S: seconds a connection has for its first message; default 10."""
    max_connection_s: float | None
    """WHISPER_MAX_CONNECTION_S: seconds after which a stream is asked to roll over (4409); default never."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        host = env.get("WHISPER_HOST") or "0.0.0.0"
        model = short_name(env.get("WHISPER_MODEL") or "tiny.en")
        if not NAME.fullmatch(model):
            raise ConfigurationError(f"WHISPER_MODEL must be a short name such as small.en, not {model!r}")
        models_path = env.get("WHISPER_MODELS_PATH")
        model_path = env.get("WHISPER_MODEL_PATH") or (models_path and str(Path(models_path) / model))
        if not model_path:
            raise ConfigurationError(
                "WHISPER_MODELS_PATH is not set, nor is WHISPER_MODEL_PATH: one must name where the model is"
            )
        sha256 = env.get("WHISPER_MODEL_SHA256", "").lower() or None
        if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ConfigurationError("WHISPER_MODEL_SHA256 must be 64 hexadecimal digits")
        device = env.get("WHISPER_DEVICE") or "auto"
        if device not in DEVICES:
            raise ConfigurationError(f"WHISPER_DEVICE must be one of {', '.join(DEVICES)}, not {device!r}")
        control_file = env.get("WHISPER_CONTROL_FILE")
        return cls(
            host=host,
            port=_integer(env, "WHISPER_PORT", 9090, 1, 65535),
            health_host=env.get("WHISPER_HEALTH_HOST") or host,
            health_port=_integer(env, "WHISPER_HEALTH_PORT", 9091, 1, 65535),
            metrics_port=_integer(env, "WHISPER_METRICS_PORT", 0, 1, 65535)
            if env.get("WHISPER_METRICS_PORT")
            else None,
            model=model,
            models_path=Path(models_path) if models_path else None,
            model_path=Path(model_path),
            model_sha256=sha256,
            device=device,
            compute_type=env.get("WHISPER_COMPUTE_TYPE") or None,
            max_streams=_integer(env, "WHISPER_MAX_STREAMS", 4, 1, 64),
            require_ticket=_boolean(env, "WHISPER_REQUIRE_TICKET", True),
            control_file=Path(control_file) if control_file else None,
            release=env.get("WHISPER_RELEASE") or "unknown",
            handshake_timeout_s=_seconds(env, "WHISPER_HANDSHAKE_TIMEOUT_S") or 10.0,
            max_connection_s=_seconds(env, "WHISPER_MAX_CONNECTION_S"),
        )


def _integer(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = env.get(name) or str(default)
    if not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
        raise ConfigurationError(f"{name} must be a whole number from {low} to {high}, not {text!r}")
    return int(text)


def _boolean(env: Mapping[str, str], name: str, default: bool) -> bool:
    text = (env.get(name) or str(default)).lower()
    if text not in {"true", "false"}:
        raise ConfigurationError(f"{name} must be true or false, not {text!r}")
    return text == "true"


def _seconds(env: Mapping[str, str], name: str) -> float | None:
    text = env.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigurationError(f"{name} must be a number of seconds above 0, not {text!r}")
    return value
