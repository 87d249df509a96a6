"""One cluster for all tests of fleets, which are started only where Ray is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.fleet import cluster
from tests.hub.server import HubServer
from tests.verify import planting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A Hub with a model."""
    folder = planting.make_source(tmp_path_factory.mktemp("planted") / "source")
    with HubServer() as found:
        found.users = {cluster.TOKEN: "ann"}
        found.add(cluster.SOURCE, {path.name: path.read_bytes() for path in folder.iterdir()})
        yield found


@pytest.fixture(scope="session")
def all_nodes(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[cluster.Nodes]:
    """A cluster."""
    from convert.fleet.ray_nodes import PATIENT  # noqa: PLC0415 - not installed everywhere

    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    os.environ.update({**PATIENT, "RAY_metrics_report_interval_ms": "1000"})
    found = cluster.Nodes.start(server, tmp_path_factory.mktemp("nodes"))
    yield found
    found.cluster.shutdown()


@pytest.fixture
def nodes(all_nodes: cluster.Nodes) -> cluster.Nodes:
    """Two nodes that live."""
    all_nodes.keep(2)
    return all_nodes


def write_recipe(folder: Path, text: str = cluster.RECIPE) -> Path:
    planting.write_pack(folder / "pack.yaml")
    (folder / "m.yaml").write_text(text, "utf-8")
    return folder


@pytest.fixture
def home(tmp_path: Path, server: HubServer) -> Path:
    """A folder with a recipe; what was published before is gone."""
    server.repos = {cluster.SOURCE: server.repos[cluster.SOURCE]}
    server.log.clear()
    return write_recipe(tmp_path)


@pytest.fixture(scope="session")
def whole(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes of one machine."""
    folder = write_recipe(tmp_path_factory.mktemp("one"))
    subprocess.run(
        [sys.executable, "-m", "convert.cli", "convert", "m.yaml", "--quiet"],
        cwd=folder,
        env={**os.environ, **cluster.environment(server, folder / "home")},
        check=True,
    )
    return cluster.digests(folder / "artifacts" / "m")
