"""One world of systemd hosts for all tests here; where none can run, the tests say why and are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    with start_world(tmp_path_factory.mktemp("world")) as running:
        yield running
