"""An empty account for a file's tests, emptied before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployment.world import World, empty_account


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with empty_account(tmp_path_factory.mktemp("empty") / "account") as world:
        yield world


@pytest.fixture
def world(account: World) -> World:
    account.empty()
    return account
