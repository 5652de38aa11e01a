"""One world of systemd hosts for all tests here; where none can run, the tests say why and are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hosts.deploying import HOMES, deploy_from_here
from tests.hosts.world import World, start_world
from whisperctl.local import roottree

HERE = Path(__file__).parent
GRACE_S = 60.0
"""From the notice of the night, or of the hard maximum, to the closing of streams."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = roottree.why_not()
    for item in items:
        if reason is not None and HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def tree() -> Path:
    """The hosts' root tree, made before anything is timed."""
    return roottree.root_tree(roottree.cache_directory(os.environ))


@pytest.fixture(scope="session")
def world(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    del tree
    grace = {"NIGHT_GRACE_MINUTES": f"{GRACE_S / 60:g}"}
    with start_world(tmp_path_factory.mktemp("world"), "--idle-minutes", "60", **grace) as running:
        yield running


@dataclass(frozen=True)
class Installed:
    """Both hosts with their releases, which are named by what `whisperctl deploy` called them."""

    world: World
    gpu_name: str
    edge_name: str
    proof: dict[str, str]
    """What the check of each said when it was installed, by target."""

    @property
    def gpu(self) -> str:
        return self.world.gpu

    @property
    def edge(self) -> str:
        return self.world.edge

    @property
    def gpu_release(self) -> str:
        """The release's directory on the host."""
        return f"{HOMES['gpu']}/releases/{self.gpu_name}"

    @property
    def edge_release(self) -> str:
        return f"{HOMES['edge']}/releases/{self.edge_name}"


@pytest.fixture(scope="session")
def installed(world: World, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """From two blank hosts, by the operator's command: the edge first, then the GPU host, which it wakes."""
    directory = tmp_path_factory.mktemp("settings")
    reports = {target: deploy_from_here(world, target, directory) for target in ("edge", "gpu")}
    proof = {
        target: next(step["output_tail"] for step in report["rollout"]["steps"] if step["name"] == "verify")
        for target, report in reports.items()
    }
    return Installed(world, reports["gpu"]["release"], reports["edge"]["release"], proof)
