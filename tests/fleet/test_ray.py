"""A real cluster of Ray: the bytes of one machine, judged, released and counted, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import stat
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from convert.errors import Exit
from convert.store import Remote, Store
from convert.version import version
from tests.fleet.cluster import (
    MADE,
    RECIPE,
    TOKEN,
    Driver,
    Nodes,
    digests,
    interrupt,
    is_over,
    is_released_once,
    knows,
    until,
)
from tests.fleet.conftest import write_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hub.server import HubServer

pytestmark = [pytest.mark.apart, pytest.mark.timeout(1800)]


def said_by(nodes: Nodes) -> str:
    """Read the metrics of all nodes, as Prometheus does."""
    found = ""
    for port in nodes.metrics.values():
        with suppress(OSError):  # its agent is not there yet
            found += urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    return found


def test_from_a_recipe_to_the_hub(nodes: Nodes, home: Path, whole: dict[str, str], server: HubServer) -> None:
    driver = Driver(nodes, home)
    knowing = {stage: knows(driver.order(stage), TOKEN) for stage in ("convert", "verify", "publish")}
    code, said = driver.answer()
    assert code == Exit.DONE, said
    assert {order["name"]: order["state"] for order in said["orders"]} == dict.fromkeys(
        ("m/convert/read", "m/verify/cpu-a", "m/publish/all"), "done"
    )
    assert all(order["cpu_s"] > 0 and order["tries"] == 1 for order in said["orders"])

    assert digests(home / "artifacts" / "m") == whole
    report = json.loads((home / "artifacts" / "m" / "report.json").read_text("utf-8"))
    assert report["passed"]

    # Each node has fetched what it lacked, and nobody but the release had the token.
    assert knowing == {"convert": False, "verify": False, "publish": True}
    assert not any(each.authorization for each in server.log if each.path.endswith(".safetensors"))
    assert TOKEN not in driver.said()
    assert is_released_once(server)

    # What orders have cost is in the metrics of their nodes.
    until(lambda: 'stage="verify"' in said_by(nodes), "metrics")
    found = said_by(nodes)
    for name in ("orders", "wall_seconds", "cpu_seconds"):
        assert f"modelwright_{name}" in found
    assert TOKEN not in found

    code, again = Driver(nodes, home, "--no-publish").answer()
    assert (code, again["orders"]) == (Exit.DONE, [])


@pytest.mark.parametrize("workers", [2, 4])
def test_the_bytes_are_those_of_one_machine(
    nodes: Nodes, home: Path, whole: dict[str, str], workers: int
) -> None:
    nodes.keep(workers)
    driver = Driver(nodes, home, "--parts", str(workers))
    driver.wait_until_built()
    interrupt(driver)
    assert digests(home / "artifacts" / "m") == whole
    assert not list((home / "artifacts" / ".parts").glob("*"))


def test_two_drivers_on_one_folder_do_not_disturb_each_other(
    nodes: Nodes, home: Path, whole: dict[str, str]
) -> None:
    drivers = [Driver(nodes, home, "--parts", "2") for _ in range(2)]
    for driver in drivers:
        driver.wait_until_built()
    interrupt(*drivers)
    assert digests(home / "artifacts" / "m") == whole


def test_two_drivers_over_an_object_store(nodes: Nodes, home: Path, whole: dict[str, str]) -> None:
    (home / "bucket").mkdir()
    store = f"local://{home}/bucket/models"
    words = ("--parts", "2", "--store", store, "--no-publish")
    drivers = [Driver(nodes, home, *words, "--out", name) for name in ("one", "other")]
    for driver in drivers:
        code, said = driver.answer()
        assert code == Exit.DONE, said
    for target in MADE:
        Remote.at(store).pull(Store(home / "pulled"), "m", target)
    assert digests(home / "pulled" / "m") == whole
    assert (home / "bucket" / "models" / "m" / "report.json").is_file()
    shutil.rmtree(home / "one")
    code, again = Driver(nodes, home, *words, "--out", "one").answer()
    assert (code, again["orders"]) == (Exit.DONE, [])


def test_a_node_of_another_version_is_refused_by_name(nodes: Nodes, home: Path) -> None:
    git = home / "older" / "git"
    git.parent.mkdir()
    git.write_text(
        f'#!/bin/sh\ncase "$*" in *--short*) echo 0ddba11ed;; *) exec {shutil.which("git")} "$@";; esac\n'
    )
    git.chmod(git.stat().st_mode | stat.S_IXUSR)
    write_recipe(home, RECIPE.replace("cpu-a", "cpu-old"))
    driver = Driver(nodes, home)
    driver.wait_until_built()
    older = nodes.add("cpu-old", PATH=f"{git.parent}:{os.environ['PATH']}")
    try:
        code, said = driver.answer()
    finally:
        nodes.kill(older)
    found = {order["name"]: order for order in said["orders"]}
    assert code == Exit.FAILED
    refused = found["m/verify/cpu-old"]
    assert (refused["state"], refused["tries"]) == ("failed", 1)
    assert "0ddba11ed" in refused["error"]
    assert f"and the fleet {version()}" in refused["error"]
    assert found["m/convert/read"]["state"] == "done"
    assert found["m/publish/all"]["state"] == "skipped"
    assert not (home / "artifacts" / "m" / "report.json").exists()


def test_without_an_address_it_starts_ray_here_and_ends_it(
    nodes: Nodes, home: Path, whole: dict[str, str]
) -> None:
    driver = Driver(nodes, home, "--no-publish", is_alone=True)
    process = driver.order("convert")
    started = psutil.Process(driver.process.pid).children(recursive=True)
    assert process in started
    driver.wait_until_built()
    interrupt(driver)
    until(lambda: all(map(is_over, started)), "Ray's processes to end")
    assert digests(home / "artifacts" / "m") == whole
