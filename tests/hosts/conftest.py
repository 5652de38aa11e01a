"""One world of systemd hosts for all tests here; where none can run, the tests say why and are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hosts import releases
from tests.hosts.world import World, start_world
from whisperctl.local import roottree

HERE = Path(__file__).parent


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
    with start_world(tmp_path_factory.mktemp("world"), "--idle-minutes", "60") as running:
        yield running


@pytest.fixture(scope="session")
def cache() -> Path:
    return roottree.cache_directory(os.environ)


@dataclass(frozen=True)
class Installed:
    """Both hosts with their releases installed; the directories are those on the hosts."""

    world: World
    gpu_release: str
    edge_release: str

    @property
    def gpu(self) -> str:
        return self.world.gpu

    @property
    def edge(self) -> str:
        return self.world.edge


@pytest.fixture(scope="session")
def installed(world: World, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """From two blank hosts, by the hosts' own scripts."""
    made = tmp_path_factory.mktemp("releases")
    if world.state(world.gpu) != "running":
        world.start(world.gpu)
    releases.configure(world, world.edge, releases.edge_settings(world))
    releases.configure(world, world.gpu, releases.gpu_settings(world))
    edge = releases.bring(world, world.edge, "edge", releases.edge_release(made / "e1"))
    gpu = releases.bring(world, world.gpu, "gpu", releases.gpu_release(made / "g1", cache))
    for host, directory in ((world.edge, edge), (world.gpu, gpu)):
        world.must(host, f"{directory}/bootstrap/install.sh stage {directory}")
        world.must(host, f"{directory}/bootstrap/install.sh activate {directory}")
    return Installed(world, gpu, edge)
