from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bootstrap.launcher import Launcher, running


@pytest.fixture(scope="module")
def launcher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """A launcher for the whole module, with the settings of the module's LAUNCHER_ENV if it has one."""
    env = getattr(request.module, "LAUNCHER_ENV", None)
    with running(tmp_path_factory.mktemp("launcher"), env) as launcher:
        yield launcher
