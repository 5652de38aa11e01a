"""Stock WhisperLive beside ours: the same package, model and host, and none of our compensation.

    python -m bench.stock 19190 MODEL_FOLDER

listens on loopback; used by benchmarks and by the probes that show a defect in the original.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from typing import Any


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("model", help="the model's folder")
    parser.add_argument("--max-clients", type=int, default=8)
    parser.add_argument("--any-model", action="store_true", help="clients choose the model, as without a fixed one")
    parser.add_argument("--api-key")
    parser.add_argument("--rest-port", type=int)
    parser.add_argument("--batch", action="store_true", help="decodes of several streams run as one batch")
    options = parser.parse_args(arguments)
    # Its only use of torch on this path is to ask for CUDA; the launcher's stand-in answers that.
    from gpu_bootstrap import torch_stub

    torch_stub.install(lambda: 0, lambda: False)
    from whisper_live.server import TranscriptionServer

    wanted: dict[str, Any] = {
        "backend": "faster_whisper",
        "faster_whisper_custom_model_path": None if options.any_model else options.model,
        "single_model": not options.any_model,
        "max_clients": options.max_clients,
        "max_connection_time": 3600,
        "api_key": options.api_key,
        "enable_rest": options.rest_port is not None,
        "rest_port": options.rest_port or 0,
        "batch_enabled": options.batch,
    }
    # Older versions know fewer of these; what they lack is not there to be wrong.
    known = inspect.signature(TranscriptionServer.run).parameters
    TranscriptionServer().run(
        "127.0.0.1", options.port, **{name: value for name, value in wanted.items() if name in known}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
