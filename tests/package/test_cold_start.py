"""What a cold start loads before its first call: by name and number, which no load of this machine changes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.package.cold_start import ENV, PROGRAM
from tests.package.runtime import Runtime, runtime

MOST = {
    "chalicelib": 66,
    "aws_lambda_powertools": 40,
    "botocore": 76,
    "chalice": 2,
    "dateutil": 11,
    "jmespath": 8,
    "six": 3,
    "typing_extensions": 1,
    "urllib3": 30,
    "app": 1,
}
"""Modules of each package on the cold path; what is not here has no place on it."""
ALL = 460
"""With Python's own."""
LISTED = "\nprint(json.dumps(sorted(name for name, one in sys.modules.items() if one is not None)))"
HOMES = (
    "\nhomes = tuple(sys.argv[1:3])"
    "\nprint(json.dumps(sorted(name for name, one in list(sys.modules.items())"
    " if (getattr(one, '__file__', None) or '').startswith(homes))))"
)


@pytest.fixture(scope="module")
def unzipped(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return runtime(archive, tmp_path_factory.mktemp("cold"))


def test_the_cold_path_loads_these_packages_and_no_more_of_them(unzipped: Runtime) -> None:
    loaded = json.loads(unzipped.python(PROGRAM + HOMES, env=ENV).splitlines()[-1])
    found = Counter(name.split(".")[0] for name in loaded)
    assert set(found) <= set(MOST), sorted(set(found) - set(MOST))
    assert {name: number for name, number in found.items() if number > MOST[name]} == {}
    assert {"app", "chalice", "chalicelib", "botocore", "aws_lambda_powertools"} <= set(found)


def test_all_in_all_it_loads_so_many_modules(unzipped: Runtime) -> None:
    loaded = json.loads(unzipped.python(PROGRAM + LISTED, env=ENV).splitlines()[-1])
    assert len(loaded) <= ALL
    absent = ("boto3", "s3transfer", "aws_xray_sdk", "pydantic", "asyncio", "chalice.local", "chalicelib.net.canary",
              "chalicelib.domain.calendar", "jwt", "websockets", "h11", "wsproto")  # fmt: skip
    assert [name for name in absent if name in loaded] == []
