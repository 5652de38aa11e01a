"""The stand-in for torch, in an interpreter of its own: it changes sys.modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

INSTALL = """
import importlib.util, sys
from gpu_bootstrap import torch_stub
torch_stub.install(lambda: {devices}, lambda: {float16})
import torch
"""


def run(code: str, *, devices: int = 0, float16: bool = False) -> str:
    program = INSTALL.format(devices=devices, float16=float16) + code
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + (done.stderr.strip().splitlines()[-1] if done.returncode else "")


@pytest.mark.parametrize(
    ("devices", "float16", "answer"),
    [(0, False, "False (6, 1)"), (1, True, "True (7, 0)"), (2, False, "True (6, 1)")],
)
def test_answers_the_two_questions(devices: int, float16: bool, answer: str) -> None:
    asked = "print(torch.cuda.is_available(), torch.cuda.get_device_capability('cuda'))"
    assert run(asked, devices=devices, float16=float16).strip() == answer


@pytest.mark.parametrize(
    "code",
    ["torch.zeros(3)", "torch.cuda.synchronize()", "torch.Tensor", "torch.__version__", "torch.cuda.device_count()"],
)
def test_any_other_use_raises_and_says_what(code: str) -> None:
    said = run(code)
    assert "UnexpectedTorchUseError" in said
    assert "is not installed here" in said


@pytest.mark.parametrize("code", ["import torch.nn", "from torch import nn"])
def test_any_other_import_raises(code: str) -> None:
    assert run(code).split(":")[0] in {"ModuleNotFoundError", "ImportError"}


def test_libraries_that_probe_for_torch_find_none() -> None:
    probe = "print(hasattr(torch, 'Tensor'), importlib.util.find_spec('torch').loader)"
    assert run(probe).strip() == "False None"


def test_whisper_live_imports_with_it_and_without_torch() -> None:
    code = "import whisper_live.server, whisper_live.backend.faster_whisper_backend; print('imported')"
    assert "imported" in run(code)


def test_comes_too_late_after_the_real_torch() -> None:
    code = """
sys.modules['torch'] = type(sys)('torch')
torch_stub.install(lambda: 0, lambda: False)
"""
    assert "RuntimeError: torch is already imported" in run(code)
