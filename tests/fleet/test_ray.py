"""A real cluster of Ray on this machine: the bytes of one machine, whoever dies meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from convert.cli import app
from convert.errors import Exit
from convert.fleet.ray_nodes import PATIENT
from convert.store import Remote, Store
from tests import tiny
from tests.hf import describing
from tests.verify import planting

if TYPE_CHECKING:
    from collections.abc import Iterator

cluster_utils = pytest.importorskip("ray.cluster_utils")
pytestmark = [pytest.mark.apart, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """\
model: source
targets: {gguf: {quants: [Q8_0, Q4_K_M]}, hf: {}}
verify:
  {scenarios: [pack.yaml], tokens: 256, text: text.txt, on: [cpu-a], gates: {
    smoke_drop: null, top1: 0.1, kl_mean: null, ppl_ratio: null}}
publish: {to: released}
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that does nothing, and two nodes of a class."""
    os.environ.update(PATIENT)
    found = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    for _ in range(2):
        add_node(found)
    yield found
    found.shutdown()


def add_node(cluster: Any) -> Any:
    port = free_port()
    node = cluster.add_node(num_cpus=1, resources={"cpu-a": 1}, metrics_export_port=port)
    node.port = port
    return node


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    describing.make(tmp_path / "source", tiny.Recipe("qwen2", shards=2))
    planting.write_pack(tmp_path / "pack.yaml")
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 100, "utf-8")
    (tmp_path / "m.yaml").write_text(RECIPE, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def digests(folder: Path) -> dict[str, str]:
    """Digest what is shipped; reports have times in them."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("report.")
    }


def fleet(cluster: Any, *words: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "convert.cli", "fleet", "m.yaml", "--address", cluster.address]
    done = subprocess.run(
        [*command, "--offline", "--json", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("parts", [1, 4])
def test_the_bytes_are_those_of_one_machine(cluster: Any, home: Path, parts: int) -> None:
    assert app.run(["convert", "m.yaml", "--out", "whole", "--quiet", "--offline"]) == Exit.DONE
    code, said = fleet(cluster, "--parts", str(parts))
    assert code in (Exit.DONE, Exit.GATE_FAILED), said
    assert digests(home / "artifacts" / "m") == digests(home / "whole" / "m")
    assert (home / "artifacts" / "m" / "report.json").is_file()
    states = {order["name"]: order["state"] for order in said["orders"]}
    assert states["m/verify/cpu-a"] == "done", said
    assert states["m/publish/all"] == "done", said
    code, again = fleet(cluster, "--no-publish")
    assert (code, again["orders"]) == (Exit.DONE, [])


def start(cluster: Any, *words: str) -> subprocess.Popen[str]:
    """Start a fleet, and go on."""
    command = [sys.executable, "-m", "convert.cli", "fleet", "m.yaml", "--address", cluster.address]
    return subprocess.Popen(
        [*command, "--offline", "--json", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def order_of(home: Path, stage: str, within_s: float = 300.0) -> psutil.Process:
    """Wait for a process that carries out an order of a stage."""
    verb = "convert" if stage == "part" else stage
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "convert.cli" in words and str(home / "m.yaml") in words and verb in words:
                return process
        time.sleep(0.02)
    raise AssertionError(f"no order of {stage}")


def node_of(cluster: Any, process: psutil.Process) -> Any:
    """Find the node whose processes have started this one."""
    above = {each.pid for each in process.parents()}
    for node in cluster.worker_nodes:
        if above & {each.process.pid for group in node.all_processes.values() for each in group}:
            return node
    raise AssertionError("an order of no node")


MADE = ("gguf-Q8_0", "gguf-Q4_K_M", "hf")


def stop_when_built(driver: subprocess.Popen[str], home: Path, within_s: float = 500.0) -> None:
    """Interrupt a fleet once all artifacts are there: what follows takes minutes, and others test it."""
    until_s = time.monotonic() + within_s
    while not all((home / "artifacts" / "m" / name / "manifest.json").is_file() for name in MADE):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < until_s
        time.sleep(0.1)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate()
    assert driver.returncode == Exit.INTERRUPTED, out + err


def is_as_of_one_machine(home: Path) -> bool:
    assert app.run(["convert", "m.yaml", "--out", "whole", "--quiet", "--offline"]) == Exit.DONE
    return digests(home / "artifacts" / "m") == digests(home / "whole" / "m")


STAGES = ("convert", "part", "assemble")


def parts_for(stage: str) -> str:
    return "1" if stage == "convert" else "2"


@pytest.mark.parametrize("stage", STAGES)
def test_a_node_that_dies_in_any_stage_is_replaced(cluster: Any, home: Path, stage: str) -> None:
    with start(cluster, "--parts", parts_for(stage)) as driver:
        doomed = node_of(cluster, order_of(home, stage))
        cluster.remove_node(doomed, allow_graceful=False)
        add_node(cluster)
        stop_when_built(driver, home)
    assert is_as_of_one_machine(home)


@pytest.mark.parametrize("stage", STAGES)
def test_a_driver_that_dies_in_any_stage_is_resumed_by_the_same_command(
    cluster: Any, home: Path, stage: str
) -> None:
    with start(cluster, "--parts", parts_for(stage)) as driver:
        order_of(home, stage)
        driver.send_signal(signal.SIGKILL)
    with start(cluster, "--parts", parts_for(stage)) as driver:
        stop_when_built(driver, home)
    assert is_as_of_one_machine(home)
    assert not list((home / "artifacts" / ".parts").glob("*"))


def test_two_drivers_on_one_folder_do_not_disturb_each_other(cluster: Any, home: Path) -> None:
    with start(cluster, "--parts", "2") as one, start(cluster, "--parts", "2") as other:
        stop_when_built(one, home)
        stop_when_built(other, home)
    assert is_as_of_one_machine(home)


@pytest.mark.parametrize("stage", ["verify", "publish"])
def test_a_driver_that_dies_when_all_is_built_builds_nothing_again(
    cluster: Any, home: Path, stage: str
) -> None:
    with start(cluster) as driver:
        order_of(home, stage)
        driver.send_signal(signal.SIGKILL)
    built = {path: path.stat().st_mtime_ns for path in (home / "artifacts" / "m").glob("*/manifest.json")}
    code, said = fleet(cluster)
    assert code == Exit.DONE, said
    assert {order["name"].split("/")[1] for order in said["orders"]} <= {"verify", "publish"}
    assert {path: path.stat().st_mtime_ns for path in built} == built
    assert len(list((home / "released").glob("*/published.json"))) == 3


def test_a_fleet_over_an_object_store(cluster: Any, home: Path) -> None:
    assert app.run(["convert", "m.yaml", "--out", "whole", "--quiet", "--offline"]) == Exit.DONE
    store = f"local://{home}/bucket/models"
    (home / "bucket").mkdir()
    code, said = fleet(cluster, "--parts", "2", "--store", store, "--out", "cache")
    assert code == Exit.DONE, said
    for target in ("gguf-Q8_0", "gguf-Q4_K_M", "hf"):
        Remote.at(store).pull(Store(home / "pulled"), "m", target)
    assert digests(home / "pulled" / "m") == digests(home / "whole" / "m")
    assert (home / "bucket" / "models" / "m" / "report.json").is_file()
    assert not (home / "bucket" / "models" / ".parts").exists()
    shutil.rmtree(home / "cache")
    code, again = fleet(cluster, "--no-publish", "--store", store, "--out", "cache")
    assert (code, again["orders"]) == (Exit.DONE, [])


def test_prometheus_sees_what_orders_cost(cluster: Any, home: Path) -> None:
    code, said = fleet(cluster, "--no-publish")
    assert code == Exit.DONE, said
    found = ""
    for _ in range(60):
        found = "".join(
            urllib.request.urlopen(f"http://127.0.0.1:{node.port}/metrics").read().decode()
            for node in cluster.worker_nodes
        )
        if "modelwright_cpu_seconds" in found:
            break
        time.sleep(1)
    assert "modelwright_orders" in found
    assert 'stage="verify"' in found
    assert home
