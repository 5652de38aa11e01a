"""A Lambda's insides as far as they matter: the unzipped archive, what the runtime brings, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAMBDA_HAS = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
"""What Lambda's Python runtime brings along."""
DRIVER = """
import json, sys, zoneinfo
from types import SimpleNamespace
sys.path[:0] = sys.argv[1:3]
zoneinfo.reset_tzpath(())  # a runtime without zones' data
given = json.load(sys.stdin)
import app
from chalicelib import web
context = SimpleNamespace(
    aws_request_id="c6af9ac6-7b61-11e6-9a41-93e8deadbeef", function_name="whisperlive-" + given["handler"],
    memory_limit_in_mb=512, invoked_function_arn="arn:aws:lambda:eu-central-1:123456789012:function:whisperlive",
    get_remaining_time_in_millis=lambda: 29000,
)
handler = getattr(app, given["handler"])
answers = [handler(event, context) for event in given["events"]]
print(json.dumps({"answers": answers, "home": web.__file__, "path": sys.path}))
"""


@dataclass(frozen=True)
class Runtime:
    """Where the code and the runtime's own packages lie."""

    code: Path
    packages: Path

    def python(self, program: str, given: str = "", env: dict[str, str] | None = None) -> str:
        """Run a program in a clean interpreter; what it printed. `sys.argv[1:3]` are code and packages."""
        run = subprocess.run(
            # No site-packages, no PYTHONPATH, and, as on Lambda's read-only disk, no bytecode written.
            [sys.executable, "-I", "-S", "-B", "-c", program, str(self.code), str(self.packages)],
            input=given,
            env={"PATH": os.environ["PATH"], **(env or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-4000:]
        return run.stdout

    def drive(self, handler: str, events: list[dict[str, Any]], env: dict[str, str]) -> list[Any]:
        """A cold container of `handler` is given these events, one after the other; its answers."""
        said = self.python(DRIVER, json.dumps({"handler": handler, "events": events}), env)
        result: dict[str, Any] = json.loads(said.splitlines()[-1])
        assert result["home"].startswith(str(self.code))
        assert not [one for one in result["path"] if "site-packages" in one]
        answers: list[Any] = result["answers"]
        return answers


def runtime(archive: Path, folder: Path) -> Runtime:
    """Unzip `archive` and lay the runtime's packages beside it."""
    code, packages = folder / "code", folder / "runtime"
    shutil.unpack_archive(archive, code)
    packages.mkdir()
    for name in LAMBDA_HAS:
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        origin = Path(found.origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        (packages / source.name).symlink_to(source)
    return Runtime(code, packages)
