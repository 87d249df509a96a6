"""Whoever dies, in whatever stage: the same bytes, nothing half there, all made and released once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from convert.errors import Exit
from tests.fleet.cluster import (
    MADE,
    SOURCE,
    WEIGHTS,
    Driver,
    Nodes,
    digests,
    interrupt,
    is_over,
    is_released_once,
    until,
)
from tests.hub.server import Fault

if TYPE_CHECKING:
    from pathlib import Path

    import psutil

    from tests.hub.server import HubServer

pytestmark = [pytest.mark.apart, pytest.mark.timeout(1800)]
STALLED_BYTES = 1_000_000


def is_whole_or_absent(home: Path, whole: dict[str, str]) -> bool:
    """Say whether each artifact that shows has the bytes that it should have."""
    for name in MADE:
        folder = home / "artifacts" / "m" / name
        if folder.exists():
            wanted = {path: digest for path, digest in whole.items() if path.startswith(f"{name}/")}
            if {f"{name}/{path}": digest for path, digest in digests(folder).items()} != wanted:
                return False
    return True


def stall(nodes: Nodes, server: HubServer) -> None:
    """Let downloads of the weights stop in the middle, for longer than the test takes."""
    nodes.forget()
    repo = server.repos[SOURCE]
    assert len(repo.commits[repo.refs["main"]][WEIGHTS]) > STALLED_BYTES
    server.faults = [
        Fault("stall", WEIGHTS, times=1000, method="GET", after_bytes=STALLED_BYTES, pause_s=3600)
    ]


def is_in(process: psutil.Process, server: HubServer, stage: str) -> bool:
    """Say whether an order is in the midst of its stage."""
    if stage == "fetch":
        return any(each.sent_bytes == STALLED_BYTES for each in server.bodies(WEIGHTS))
    # A process of its own asks the model.
    return stage != "verify" or bool(process.children())


def test_nodes_that_die_in_any_stage_are_replaced(
    nodes: Nodes, home: Path, whole: dict[str, str], server: HubServer
) -> None:
    stall(nodes, server)
    driver = Driver(nodes, home)
    for stage in ("fetch", "convert", "verify", "publish"):
        order = driver.order("convert" if stage == "fetch" else stage)
        driver.wait(partial(is_in, order, server, stage), stage)
        server.faults.clear()
        # A release is made where the fleet is driven, and needs no node.
        if stage == "publish":
            nodes.kill(next(iter(nodes.metrics)))
        else:
            nodes.kill(nodes.of(order))
            until(partial(is_over, order), "an order to end with its node")
            nodes.keep(2)
        assert is_whole_or_absent(home, whole)
    code, said = driver.answer()
    assert code == Exit.DONE, said
    assert {order["name"]: order["tries"] for order in said["orders"]} == {
        "m/convert/read": 3,
        "m/verify/cpu-a": 2,
        "m/publish/all": 1,
    }
    assert digests(home / "artifacts" / "m") == whole
    assert is_released_once(server)


def test_nodes_that_die_over_parts_are_replaced(nodes: Nodes, home: Path, whole: dict[str, str]) -> None:
    driver = Driver(nodes, home, "--parts", "2")
    for stage in ("part", "assemble"):
        order = driver.order(stage)
        nodes.kill(nodes.of(order))
        until(partial(is_over, order), "an order to end with its node")
        assert is_whole_or_absent(home, whole)
        nodes.keep(2)
    driver.wait_until_built()
    interrupt(driver)
    assert digests(home / "artifacts" / "m") == whole


def test_drivers_that_die_in_any_stage_are_resumed_by_the_same_command(
    nodes: Nodes, home: Path, whole: dict[str, str], server: HubServer
) -> None:
    stall(nodes, server)
    built: dict[str, int] = {}
    for stage in ("fetch", "part", "assemble", "verify", "publish"):
        driver = Driver(nodes, home, "--parts", "2")
        order = driver.order("part" if stage == "fetch" else stage)
        driver.wait(partial(is_in, order, server, stage), stage)
        server.faults.clear()
        driver.kill()
        assert is_whole_or_absent(home, whole)
        if stage == "verify":
            made = home.glob("artifacts/m/*/manifest.json")
            built = {str(path): path.stat().st_mtime_ns for path in made}
    code, said = Driver(nodes, home, "--parts", "2").answer()
    assert code == Exit.DONE, said
    assert [order["name"] for order in said["orders"]] == ["m/publish/all"]
    assert digests(home / "artifacts" / "m") == whole
    assert len(built) == len(MADE)
    assert {path: (home / path).stat().st_mtime_ns for path in built} == built, "built again"
    assert is_released_once(server)
    assert not list((home / "artifacts" / ".parts").glob("*"))
