"""A stand-in for torch, which WhisperLive imports on this path for two questions about the GPU.

torch is gigabytes to install and seconds to import at every wake; whisper_live's faster-whisper path only
asks `torch.cuda.is_available()` and `torch.cuda.get_device_capability()`. CTranslate2 can answer both.
Anything else asked of it raises `UnexpectedTorchUseError`, so that a WhisperLive that uses more of torch is
noticed rather than served wrongly.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType


class UnexpectedTorchUseError(AttributeError):
    """torch was asked for something the stand-in does not know.

    An AttributeError, because that is what Python's own probes of a module (`hasattr`, `from … import`) expect.
    """


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> object:
        raise UnexpectedTorchUseError(
            f"{self.__name__}.{name}: torch is not installed here, and its stand-in answers only "
            "torch.cuda.is_available() and torch.cuda.get_device_capability()"
        )


def install(cuda_device_count: Callable[[], int], float16: Callable[[], bool]) -> None:
    """Put the stand-in into `sys.modules`; to be called before whisper_live is imported.

    `float16` says whether the GPU computes in half precision; torch's answer is a compute capability, of which
    WhisperLive only asks whether it is 7 or more. Raises RuntimeError when the real torch is already imported.
    """
    present = sys.modules.get("torch")
    if present is not None and not isinstance(present, _StandIn):
        raise RuntimeError("torch is already imported: its stand-in must come first")
    cuda = _StandIn("torch.cuda")
    vars(cuda)["is_available"] = lambda: cuda_device_count() > 0
    vars(cuda)["get_device_capability"] = lambda _device=None: (7, 0) if float16() else (6, 1)
    torch = _StandIn("torch")
    vars(torch)["cuda"] = cuda
    for module in (torch, cuda):
        # Libraries look for an optional torch by its spec; one without a loader says "nothing to load".
        module.__spec__ = ModuleSpec(module.__name__, None)
        sys.modules[module.__name__] = module
