"""The first message of a stream: what a client may ask for, checked before anything is built on it.

WhisperLive passes the client's JSON on to the recogniser as it is; one wrong type there raises while a lock is
held and silences every stream of the process. Here a whitelist of keys with their types is all that passes.
Stock WhisperLive clients' defaults pass; keys nobody serves here are dropped, with a warning where the client
would miss the service.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

from gpu_bootstrap import languages, prompts
from gpu_bootstrap.errors import HandshakeError
from gpu_bootstrap.frames import BYTES_PER_SAMPLE
from gpu_bootstrap.names import short_name

MAX_BYTES = 64 * 1024
MAX_TEXT = 1000
"""Characters of initial_prompt and hotwords; prompts.fitting cuts them to Whisper's tokens."""
MOST_KNOWN_S = 10.0
VAD_PARAMETERS = {
    # name: (lowest, highest)
    "threshold": (0.01, 0.99),
    "neg_threshold": (0.01, 0.99),
    "min_speech_duration_ms": (0, 10_000),
    "max_speech_duration_s": (1, math.inf),
    "min_silence_duration_ms": (0, 10_000),
    "speech_pad_ms": (0, 5_000),
}


@dataclass(frozen=True)
class Served:
    """The model that serves a stream: its short name, the languages it knows, how many tokens a text is for it.

    `excuse` says why it is not the model the client asked for; empty when it is.
    """

    model: str
    languages: Collection[str]
    count: Callable[[str], int]
    excuse: str = ""


@dataclass(frozen=True)
class Handshake:
    """A client's wishes after the check. `vad_parameters` in faster-whisper's names and units (ms, s, 0..1).

    `language` None: to be detected. `model` None: any will do.
    """

    uid: str
    language: str | None = None
    task: str = "transcribe"
    model: str | None = None
    use_vad: bool = True
    audio_format: str = "float32"
    send_last_n_segments: int = 10
    no_speech_thresh: float = 0.45
    same_output_threshold: int = 10
    word_timestamps: bool = False
    initial_prompt: str | None = None
    hotwords: str | None = None
    vad_parameters: dict[str, float] = field(default_factory=dict)
    resumes: bool = False
    """Whether the client keeps what is not final and comes back with it when the server restarts."""
    known_s: float = 0.0
    """Seconds at the beginning that an earlier connection was done with: to be heard, and not to be said again."""
    warnings: tuple[str, ...] = ()


def parse(message: str | bytes) -> Handshake:
    """Check a stream's first message; raises HandshakeError with a sentence fit for a close reason.

    What depends on the model that serves is left to `fit`.
    """
    if isinstance(message, bytes):
        raise HandshakeError("the first message must be JSON text, not a binary frame")
    if len(message) > MAX_BYTES:
        raise HandshakeError("the handshake is too long")
    try:
        options = json.loads(message)
    except (ValueError, RecursionError):
        raise HandshakeError("the first message is not JSON") from None
    if not isinstance(options, dict):
        raise HandshakeError("the handshake must be a JSON object")
    uid = _text(options, "uid", 200)
    if not uid:
        raise HandshakeError("the handshake lacks uid, a text of your choice that marks the stream")
    model = _text(options, "model", 200)
    return Handshake(
        uid=uid,
        language=languages.code(_text(options, "language", 20) or ""),
        task=_choice(options, "task", "transcribe", ("transcribe", "translate")),
        model=short_name(model) if model else None,
        use_vad=_flag(options, "use_vad", True),
        audio_format=_choice(options, "audio_format", "float32", BYTES_PER_SAMPLE),
        send_last_n_segments=int(_number(options, "send_last_n_segments", 10, 1, 500, whole=True)),
        no_speech_thresh=_number(options, "no_speech_thresh", 0.45, 0, 1),
        same_output_threshold=int(_number(options, "same_output_threshold", 10, 0, 1000, whole=True)),
        word_timestamps=_flag(options, "word_timestamps", False),
        initial_prompt=_prompt(options, "initial_prompt"),
        hotwords=_prompt(options, "hotwords"),
        vad_parameters=_vad_parameters(options),
        resumes=_flag(options, "resumes", False),
        known_s=_number(options, "known_s", 0, 0, MOST_KNOWN_S),
        warnings=tuple(_unserved(options)),
    )


def fit(wishes: Handshake, served: Served) -> Handshake:
    """The wishes as the model that serves can fulfil them, with a warning for each it cannot.

    Raises HandshakeError for a language that nobody knows.
    """
    warnings = [f"{served.excuse}; {served.model} serves instead"] if served.excuse else []
    language, task = wishes.language, wishes.task
    if set(served.languages) <= {"en"}:
        if language not in (None, "en"):
            warnings.append(f"the model {served.model} knows English only; language {language!r} is ignored")
        if task == "translate":
            warnings.append(f"the model {served.model} knows English only and does not translate; it transcribes")
        language, task = "en", "transcribe"
    elif language is not None and language not in served.languages:
        raise HandshakeError(f"language {language!r} is none that {served.model} knows; give a code such as en or de")
    initial_prompt, hotwords, cut = prompts.fitting(wishes.initial_prompt, wishes.hotwords, served.count)
    return replace(
        wishes,
        model=served.model,
        language=language,
        task=task,
        initial_prompt=initial_prompt,
        hotwords=hotwords,
        warnings=(*warnings, *cut, *wishes.warnings),
    )


def _unserved(options: dict[str, Any]) -> list[str]:
    asked = {
        "translation into other languages": bool(options.get("enable_translation")),
        "speaker names": bool(options.get("enable_diarization") or options.get("known_speakers")),
    }
    return [f"this server does not offer {service}; the words come without" for service, on in asked.items() if on]


def _vad_parameters(options: dict[str, Any]) -> dict[str, float]:
    given = options.get("vad_parameters")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise HandshakeError("vad_parameters must be an object or null")
    unknown = sorted(set(given) - set(VAD_PARAMETERS))
    if unknown:
        raise HandshakeError(f"vad_parameters has no {unknown[0][:40]!r}")
    return {
        name: _number(given, name, 0, *VAD_PARAMETERS[name], label=f"vad_parameters.{name}")
        for name in given
        if given[name] is not None
    }


def _text(options: dict[str, Any], name: str, longest: int) -> str | None:
    value = options.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise HandshakeError(f"{name} must be text or null")
    if len(value) > longest:
        raise HandshakeError(f"{name} is longer than {longest} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise HandshakeError(f"{name} holds a lone surrogate, which is no text") from None
    return value


def _prompt(options: dict[str, Any], name: str) -> str | None:
    text = _text(options, name, MAX_TEXT)
    return (prompts.clean(name, text) or None) if text else None


def _flag(options: dict[str, Any], name: str, default: bool) -> bool:
    value = options.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise HandshakeError(f"{name} must be true or false")
    return value


def _choice(options: dict[str, Any], name: str, default: str, choices: Collection[str]) -> str:
    value = options.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or value not in choices:
        raise HandshakeError(f"{name} must be one of {', '.join(choices)}")
    return value


def _number(
    options: dict[str, Any], name: str, default: float, low: float, high: float,
    *, whole: bool = False, label: str | None = None,
) -> float:  # fmt: skip
    value = options.get(name)
    if value is None:
        return default
    kind = "a whole number" if whole else "a number"
    is_number: Callable[[Any], bool] = lambda v: (  # noqa: E731 - a named test reads better than its inline form
        isinstance(v, (int,) if whole else (int, float)) and not isinstance(v, bool)
    )
    if not is_number(value) or not low <= value <= high:
        limit = f"from {low:g} to {high:g}" if high < math.inf else f"of {low:g} or more"
        raise HandshakeError(f"{label or name} must be {kind} {limit}")
    return float(value)
