"""Stock WhisperLive 0.10.0 beside ours: the same package, model and host, and none of our compensation.

    python -m bench.stock 19190 MODEL_FOLDER

listens on loopback; used by benchmarks and by tests that show a defect in the original.
"""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m bench.stock PORT MODEL_FOLDER\n")
        return 2
    port, model = int(arguments[0]), arguments[1]
    # Its only use of torch on this path is to ask for CUDA; the launcher's stand-in answers that.
    from gpu_bootstrap import torch_stub

    torch_stub.install(lambda: 0, lambda: False)
    from whisper_live.server import TranscriptionServer

    TranscriptionServer().run(
        "127.0.0.1",
        port,
        backend="faster_whisper",
        faster_whisper_custom_model_path=model,
        single_model=True,
        max_clients=8,
        max_connection_time=3600,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
