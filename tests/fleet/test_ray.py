"""A real cluster of Ray on this machine: the bytes of one machine, whoever dies meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convert.cli import app
from convert.errors import Exit
from convert.fleet.ray_nodes import PATIENT
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


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes, two of them of a class."""
    os.environ.update(PATIENT)
    found = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    for _ in range(2):
        found.add_node(num_cpus=1, resources={"cpu-a": 1})
    yield found
    found.shutdown()


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


def test_a_node_dies_in_the_middle_and_another_goes_on(cluster: Any, home: Path) -> None:
    assert app.run(["convert", "m.yaml", "--out", "whole", "--quiet", "--offline"]) == Exit.DONE
    doomed = cluster.add_node(num_cpus=1, resources={"cpu-a": 1})
    is_over = threading.Event()

    def kill() -> None:
        """Kill the node once something is being built."""
        while not is_over.wait(0.05):
            if (home / "artifacts" / ".parts").exists():
                break
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        code, said = fleet(cluster, "--parts", "6", "--no-publish")
    finally:
        is_over.set()
        killer.join()
    assert code == Exit.DONE, said
    assert digests(home / "artifacts" / "m") == digests(home / "whole" / "m")


@pytest.mark.parametrize("after_s", [2, 6, 12])
def test_a_driver_that_was_killed_is_resumed_by_the_same_command(
    cluster: Any, home: Path, after_s: int
) -> None:
    assert app.run(["convert", "m.yaml", "--out", "whole", "--quiet", "--offline"]) == Exit.DONE
    command = [sys.executable, "-m", "convert.cli", "fleet", "m.yaml", "--address", cluster.address]
    with subprocess.Popen(
        [*command, "--offline", "--quiet", "--parts", "2"], env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as driver:
        with suppress(subprocess.TimeoutExpired):
            driver.wait(after_s)
        driver.send_signal(signal.SIGKILL)
    time.sleep(1)
    code, said = fleet(cluster, "--parts", "2")
    assert code == Exit.DONE, said
    assert digests(home / "artifacts" / "m") == digests(home / "whole" / "m")
    assert not list((home / "artifacts" / ".parts").glob("*"))
