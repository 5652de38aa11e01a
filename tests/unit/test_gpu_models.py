"""Which models a host has, and a load in another one's place, with a loader of the test's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpu_bootstrap import models
from gpu_bootstrap.errors import ModelError, ModelLostError
from gpu_bootstrap.models import Device, check, exchange, shelf


def test_each_subfolder_with_a_model_is_one(tmp_path: Path) -> None:
    for name in ("base", "large-v3", ".part", "no model"):
        (tmp_path / name).mkdir()
    for name in ("base", "large-v3", ".part"):
        (tmp_path / name / "model.bin").write_bytes(b"")
    elsewhere = Path("/elsewhere")
    assert shelf(tmp_path, "tiny.en", elsewhere) == {
        "base": tmp_path / "base",
        "large-v3": tmp_path / "large-v3",
        "tiny.en": elsewhere,
    }
    assert shelf(tmp_path, "base", elsewhere)["base"] == elsewhere, "the operator's own path goes first"
    assert shelf(None, "tiny.en", elsewhere) == {"tiny.en": elsewhere}
    assert shelf(tmp_path / "none", "tiny.en", elsewhere) == {"tiny.en": elsewhere}


def test_an_installed_model_is_checked_where_its_hash_is_known(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    check("large-v3", tmp_path, None, installed=True)
    with pytest.raises(ModelError, match="not the expected one"):
        check("tiny.en", tmp_path, None, installed=True)
    with pytest.raises(ModelError, match="no sha256 is known"):
        check("large-v3", tmp_path, None)


class Weights:
    """CTranslate2's side of a model: what was done to its memory."""

    def __init__(self, *, gone: bool = False) -> None:
        self.done: list[str] = []
        self._gone = gone

    def unload_model(self, *, to_cpu: bool) -> None:
        self.done.append("to the CPU" if to_cpu else "unloaded")

    def load_model(self) -> None:
        if self._gone:
            raise RuntimeError("the file is gone")
        self.done.append("loaded")


def old(weights: Weights) -> Any:
    return SimpleNamespace(model=weights)


@pytest.mark.parametrize(("device", "done"), [("cpu", "unloaded"), ("cuda", "to the CPU")])
def test_the_old_model_gives_its_memory_back_first(monkeypatch: pytest.MonkeyPatch, device: str, done: str) -> None:
    weights = Weights()

    def load(_directory: Path, _device: Device) -> str:
        assert weights.done == [done]
        return "new"

    monkeypatch.setattr(models, "load", load)
    assert exchange(old(weights), Path("new"), Device(device, "int8")) == "new"
    assert weights.done == [done]


@pytest.mark.parametrize(("gone", "error"), [(False, ModelError), (True, ModelLostError)])
def test_a_new_model_that_does_not_load(monkeypatch: pytest.MonkeyPatch, gone: bool, error: type[ModelError]) -> None:
    def load(_directory: Path, _device: Device) -> None:
        raise ModelError("no")

    monkeypatch.setattr(models, "load", load)
    weights = Weights(gone=gone)
    with pytest.raises(ModelError) as raised:
        exchange(old(weights), Path("new"), Device("cpu", "int8"))
    assert type(raised.value) is error
    assert weights.done == (["unloaded"] if gone else ["unloaded", "loaded"])
