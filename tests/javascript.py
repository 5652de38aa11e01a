"""Runs the page's unit tests (`node --test`); part of `make test`.

Without Node it says what is missing, and fails when REQUIRE_ALL=1 forbids leaving anything out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SUITE = Path(__file__).parent / "browser" / "js"


def main() -> int:
    files = sorted(str(path) for path in SUITE.glob("*.test.mjs"))
    if not files:
        sys.stderr.write(f"no test files in {SUITE.name}/\n")
        return 1
    node = shutil.which("node")
    if node is None:
        sys.stderr.write("the page's unit tests need Node 20 or newer (apt-get install nodejs)\n")
        return 1 if os.environ.get("REQUIRE_ALL") == "1" else 0
    return subprocess.run([node, "--test", *files], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
