"""The models on this host: which there are, the right one by its hash, loaded, and warmed by one decode."""

from __future__ import annotations

import gc
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpu_bootstrap.errors import ModelError, ModelLostError
from gpu_bootstrap.frames import RATE
from gpu_bootstrap.names import NAME

KNOWN = {
    # sha256 of model.bin in Systran's conversions to CTranslate2, by short name.
    "tiny.en": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
}


@dataclass(frozen=True)
class Device:
    """Where the model runs: `cpu` or `cuda`, and CTranslate2's compute type."""

    name: str
    compute_type: str


def choose_device(wanted: str, compute_type: str | None, cuda_devices: int, float16: bool) -> Device:
    """Settle `auto`; raises ModelError when cuda is asked for and there is none."""
    if wanted == "cuda" and not cuda_devices:
        raise ModelError("WHISPER_DEVICE is cuda, but CTranslate2 sees no CUDA device: is the driver there?")
    name = "cuda" if wanted != "cpu" and cuda_devices else "cpu"
    usual = "int8" if name == "cpu" else "float16" if float16 else "float32"
    return Device(name, compute_type or usual)


def shelf(folder: Path | None, default: str, default_path: Path) -> dict[str, Path]:
    """The models of this host by name: each subfolder of `folder` that holds one, and the default at its own path."""
    there = sorted(folder.glob("*/model.bin")) if folder is not None else []
    return {file.parent.name: file.parent for file in there if NAME.fullmatch(file.parent.name)} | {
        default: default_path
    }


def check(name: str, directory: Path, sha256: str | None, *, installed: bool = False) -> None:
    """Raises ModelError unless `directory` holds the model `name` with the expected hash.

    An `installed` model was checked when its release was: here it is only where its hash is known anyway.
    """
    expected = sha256 or KNOWN.get(name)
    if expected is None and installed:
        return
    if expected is None:
        raise ModelError(f"no sha256 is known for the model {name!r}: set WHISPER_MODEL_SHA256 to its model.bin's")
    file = directory / "model.bin"
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"the model {name!r} cannot be read: {file}: {error.strerror}") from error
    if found != expected:
        raise ModelError(
            f"the model {name!r} at {file} is not the expected one: sha256 {found[:12]}…, expected {expected[:12]}…"
        )


def load(directory: Path, device: Device) -> Any:
    """Load and warm the model; returns WhisperLive's `WhisperModel`. Raises ModelError.

    whisper_live is imported here, so torch's stand-in must be in place.
    """
    from whisper_live.transcriber.transcriber_faster_whisper import WhisperModel

    for name in ("model.bin", "tokenizer.json"):
        # faster-whisper would ask the network for the tokenizer.
        if not (directory / name).is_file():
            raise ModelError(f"the model at {directory} does not load: it has no {name}")
    try:
        model = WhisperModel(
            str(directory),
            device=device.name,
            compute_type=device.compute_type,
            # int8 on one core is no slower than on two that wait for each other, and another stream has the other.
            cpu_threads=1,
            num_workers=min(4, os.cpu_count() or 1) if device.name == "cpu" else 1,
            local_files_only=True,
        )
        # Faint noise, so that the decode runs through encoder and decoder: true silence is cut short.
        noise = np.random.default_rng(0).normal(0, 1e-3, RATE).astype(np.float32)
        segments, _ = model.transcribe(noise, language="en", temperature=0, beam_size=5)
        list(segments)
    except Exception as error:  # the tokenizer's library raises Exception itself
        raise ModelError(f"the model at {directory} does not load: {error}") from error
    return model


def exchange(old: Any, directory: Path, device: Device) -> Any:
    """Load the model at `directory` in place of `old`, which no decode may use any more.

    The old one gives its memory back first: a machine needs room for one. Raises ModelError when the new one does
    not load and `old` is as it was, ModelLostError when it is not.
    """
    old.model.unload_model(to_cpu=device.name == "cuda")
    try:
        model = load(directory, device)
    except ModelError as error:
        try:
            old.model.load_model()
        except RuntimeError as again:
            raise ModelLostError(f"{error}; nor does the one before load again: {again}") from again
        raise
    gc.collect()  # streams that are over may hold on to the old one in circles
    return model
