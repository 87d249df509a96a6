"""A real cluster of Ray on this machine: nodes with a cache each, a Hub, and fleets over them."""

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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psutil

from convert.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hub.server import HubServer

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
LONG_S = 500.0  # a busy machine needs minutes for what takes seconds
TOKEN = "hf_" + "t" * 30
SOURCE, WEIGHTS = "acme/Planted", "model.safetensors"
MADE = ("gguf-Q8_0", "gguf-F16")
RECIPE = f"""\
model: {SOURCE}
targets: {{gguf: {{quants: [Q8_0, F16]}}}}
verify:
  {{scenarios: [pack.yaml], tokens: 64, on: [cpu-a], gates: {{
    smoke_drop: null, top1: 0.1, kl_mean: null, ppl_ratio: null}}}}
publish: {{}}
"""


def until(found: Callable[[], T | None], what: str, within_s: float = LONG_S) -> T:
    """Wait for an event, and return what it brings."""
    end_s = time.monotonic() + within_s
    while not (value := found()):
        assert time.monotonic() < end_s, f"waited in vain for {what}"
        time.sleep(0.1)
    return value


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ports() -> dict[str, int]:
    """Find ports for a node: without, a raylet gives up where its agents take long to find some."""
    names = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
    return {f"{name}_port": free_port() for name in names}


def patiently(start: Callable[[], T]) -> T:
    """Start what gives up after half a minute on a machine that is busy."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:  # noqa: BLE001 - Ray raises plain ones
            found = error
    raise found


def _tell_ports(node: Any) -> None:
    """Write the port that a raylet waits for: it ends after 15 seconds, and a busy machine takes longer."""
    start = node.start_raylet

    def informed(self: Any, *given: Any, **named: Any) -> Any:
        path = Path(self._session_dir, f"dashboard_agent_listen_port_{self._node_id}")
        path.write_text(str(self._ray_params.dashboard_agent_listen_port), "utf-8")
        return start(self, *given, **named)

    node.start_raylet = informed


def environment(hub: HubServer, home: Path) -> dict[str, str]:
    """Return the variables of a machine: its home, and the Hub."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        "HOME": str(home),
        "HF_HOME": str(home / "huggingface"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "HF_ENDPOINT": hub.endpoint,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_ADDRESS": "",
    }


@dataclass
class Nodes:
    """A head that does nothing, and nodes that can be added and killed."""

    cluster: Any
    hub: HubServer
    folder: Path
    metrics: dict[Any, int] = field(default_factory=dict)  # the port of each node's
    count: int = 0

    @classmethod
    def start(cls, hub: HubServer, folder: Path) -> Self:
        """Start a head."""
        from ray._private.node import Node  # noqa: PLC0415 - not installed everywhere
        from ray.cluster_utils import Cluster  # noqa: PLC0415

        _tell_ports(Node)

        lean = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}

        def head() -> Any:
            return Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **ports(), **lean})

        return cls(patiently(head), hub, folder)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self, kind: str = "cpu-a", **variables: str) -> Any:
        """Start a node of a class, with a cache of its own."""
        self.count += 1
        machine = environment(self.hub, self.folder / f"node{self.count}")
        here = self.cluster.head_node.node_ip_address
        chosen: dict[str, int] = {}

        def node() -> Any:
            chosen.update(ports())
            return self.cluster.add_node(
                num_cpus=1,
                resources={kind: 1},
                node_ip_address=here,
                **chosen,
                env_vars={**machine, **variables},
            )

        found = patiently(node)
        self.metrics[found] = chosen["metrics_export_port"]
        return found

    def keep(self, count: int) -> None:
        """Have so many nodes of the usual class."""
        while len(self.metrics) < count:
            self.add()

    def forget(self) -> None:
        """Empty the caches of all nodes."""
        for path in self.folder.glob("node*/*"):
            shutil.rmtree(path)

    def kill(self, node: Any) -> None:
        """Let a node die, with all that it does."""
        self.metrics.pop(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def of(self, process: psutil.Process) -> Any:
        """Find the node whose processes have started this one."""
        above = {each.pid for each in process.parents()}
        for node in self.metrics:
            if above & {each.process.pid for group in node.all_processes.values() for each in group}:
                return node
        raise AssertionError("an order of no node")


class Driver:
    """A fleet over the nodes, in a process of its own, on a machine where somebody has a token."""

    def __init__(self, nodes: Nodes, home: Path, *words: str, is_alone: bool = False) -> None:
        self.home = home
        number = len(list(home.glob("driver*.out")))
        self._out, self._err = home / f"driver{number}.out", home / f"driver{number}.err"
        where = () if is_alone else ("--address", nodes.address)
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "convert.cli", "fleet", "m.yaml", "--json", *where, *words],
                cwd=home,
                stdout=out,
                stderr=err,
                env={**os.environ, **environment(nodes.hub, home / "home"), "HF_TOKEN": TOKEN},
            )

    def order(self, stage: str) -> psutil.Process:
        """Wait for a process that carries out an order of a stage."""

        def find() -> psutil.Process | None:
            self._lives()
            return next(iter(orders(self.home, stage)), None)

        return until(find, f"an order of {stage}")

    def wait(self, found: Callable[[], Any], what: str) -> None:
        """Wait for an event while the fleet goes on."""

        def look() -> Any:
            value = found()
            if not value:
                self._lives()
            return value

        until(look, what)

    def _lives(self) -> None:
        assert self.process.poll() is None, self.said()

    def said(self) -> str:
        return self._out.read_text("utf-8") + self._err.read_text("utf-8")

    def kill(self) -> None:
        """Let the machine die from which the fleet is driven; wait until nothing of it goes on."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        until(lambda: not orders(self.home), "orders to end with their driver")

    def wait_until_built(self) -> None:
        """Wait for all artifacts; what follows is what others test."""
        folders = [self.home / "artifacts" / "m" / name for name in MADE]
        self.wait(lambda: all((folder / "manifest.json").is_file() for folder in folders), "artifacts")

    def answer(self) -> tuple[int, dict[str, Any]]:
        """Wait for its end; return the exit code, and what it says."""
        code = self.process.wait(LONG_S)
        assert self._out.stat().st_size, self.said()
        return code, json.loads(self._out.read_text("utf-8"))


def is_over(process: psutil.Process) -> bool:
    """Say whether a process has ended, waited for or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def knows(process: psutil.Process, secret: str) -> bool:
    """Say whether a process, the one that started it or one that it started has this in its environment."""
    family = [process]
    with suppress(psutil.Error):
        family += [*process.parents()[:1], *process.children(recursive=True)]
    found: list[str] = []
    for each in family:
        with suppress(psutil.Error):
            found += each.environ().values()
    return any(secret in value for value in found)


def interrupt(*drivers: Driver) -> None:
    """Stop fleets as Ctrl-C does; nothing of them goes on."""
    for driver in drivers:
        driver.process.send_signal(signal.SIGINT)
    for driver in drivers:
        code = driver.process.wait(LONG_S)
        assert code == Exit.INTERRUPTED, driver.said()
    until(lambda: not any(orders(driver.home) for driver in drivers), "orders to end with their driver")


def orders(home: Path, stage: str = "") -> list[psutil.Process]:
    """List the processes that carry out orders of a recipe: of one stage, or of all."""
    found = []
    wanted = (
        {"convert" if stage == "part" else stage} if stage else {"convert", "assemble", "verify", "publish"}
    )
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words[1:3] == ["-m", "convert.cli"] and words[3] in wanted and str(home / "m.yaml") in words:
            found.append(process)
    return found


def digests(folder: Path) -> dict[str, str]:
    """Digest what is shipped; reports have times in them."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("report.")
    }


def is_released_once(server: HubServer) -> bool:
    """Say whether what was made is on the Hub, in one commit after that which makes a repo."""
    (repo,) = (repo for name, repo in server.repos.items() if name != SOURCE)
    files = repo.commits[repo.refs["main"]]
    return len(repo.titles) == 2 and sum(name.endswith(".gguf") for name in files) == len(MADE)
