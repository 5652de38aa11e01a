"""How many arenas glibc gives a process's threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_threads_share_few_arenas() -> None:
    """Where the C library is glibc; the setting is read back in a process of its own, by glibc's own count."""
    script = (
        "import threading\n"
        "from gpu_bootstrap import arenas\n"
        "if LIMITED: assert arenas.limit()\n"
        "import ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "together = threading.Barrier(12)\n"
        "def use():\n"
        "    together.wait()\n"
        "    libc.malloc(1000)\n"
        "    together.wait()\n"
        "threads = [threading.Thread(target=use) for _ in range(12)]\n"
        "[one.start() for one in threads], [one.join() for one in threads]\n"
        "libc.malloc_stats()\n"
    )
    arenas = {}
    for limited in (True, False):
        code = script.replace("LIMITED", str(limited))
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        arenas[limited] = run.stderr.count("Arena ")
    assert arenas[True] <= 2 < arenas[False], arenas
