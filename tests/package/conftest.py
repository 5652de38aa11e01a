"""The package of each stage, made once for all tests of this folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.package.cloudformation import for_moto, transformed
from whisperctl.packaging import STAGES, Package, build


@dataclass(frozen=True)
class Made:
    """One stage's package, and its template read."""

    stage: str
    package: Package
    template: dict[str, Any]

    @property
    def resources(self) -> dict[str, Any]:
        found: dict[str, Any] = self.template["Resources"]
        return found

    def of_type(self, kind: str) -> dict[str, Any]:
        """Properties by logical name."""
        return {name: one.get("Properties", {}) for name, one in self.resources.items() if one["Type"] == kind}


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """By stage."""
    found = {}
    for stage in STAGES:
        package = build(tmp_path_factory.mktemp(stage), stage)
        found[stage] = Made(stage, package, json.loads(package.template.read_text()))
    return found


@pytest.fixture(scope="session", params=STAGES)
def made(request: pytest.FixtureRequest, packages: dict[str, Made]) -> Made:
    """Each stage's in turn."""
    return packages[request.param]


@pytest.fixture(scope="session")
def archive(packages: dict[str, Made]) -> Path:
    """The archive; the stages' are the same but for Chalice's own configuration."""
    return packages["prod"].package.archive


@pytest.fixture(scope="session")
def fit(packages: dict[str, Made]) -> dict[str, Any]:
    """The template as moto is given it."""
    return for_moto(transformed(packages["prod"].template))
