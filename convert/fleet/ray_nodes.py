"""Ray's nodes: each order is a task with a name, and with the resources that it asks for."""

from __future__ import annotations

import logging
import os
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Self

from convert.errors import Exit, Failure
from convert.extras import require
from convert.fleet.metrics import counted
from convert.fleet.node import perform
from convert.fleet.order import Outcome
from convert.version import version

if TYPE_CHECKING:
    from subprocess import Popen
    from types import TracebackType

    from convert.fleet.order import Order

LOOK_EVERY_S = 0.2
# A busy machine needs more than Ray gives it to start a cluster, and to answer whether a node lives; a node
# that died is found at once, as its connections close.
PATIENT = {
    "RAY_raylet_start_wait_time_s": "180",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_timeout_ms": "120000",
    "RAY_gcs_server_port_wait_time_s": "180",
    "RAY_gcs_server_request_timeout_seconds": "180",
}


# What Ray would tell its makers of a cluster that is started here.
PRIVATE = {"RAY_USAGE_STATS_ENABLED": "0"}


class RayNodes:
    """A cluster that is running, or one on this machine that ends with the block."""

    def __init__(self, address: str | None = None) -> None:
        require("ray")
        for name, value in {**PATIENT, **PRIVATE}.items():
            os.environ.setdefault(name, value)
        import ray  # noqa: PLC0415 - half a second

        self._ray: Any = ray
        self._address = address
        self._remote: dict[Any, str] = {}
        self._local: dict[Future[Outcome], str] = {}
        self._processes: list[Popen[str]] = []  # of orders that are carried out here
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="local")

    def __enter__(self) -> Self:
        """Connect, or start a cluster here."""
        ray = self._ray
        try:
            ray.init(
                address=self._address or "local",
                include_dashboard=None if self._address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                namespace="modelwright",
            )
        except Exception as error:  # Ray raises plain ones, too
            raise Failure(
                f"{self._address or 'Ray on this machine'}: {str(error).splitlines()[0]}",
                "start a cluster with `ray start --head`, or leave --address out",
            ) from error
        self._perform = ray.remote(counted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what is under way, and leave the cluster."""
        for handle in self._remote:
            self._ray.cancel(handle, force=True)
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.terminate()  # does nothing to one that has ended
        self._ray.shutdown()

    def cpus(self) -> int:
        """Return how many CPUs the smallest node has, so that an order fits every node."""
        found = [int(node["Resources"].get("CPU", 0)) for node in self._ray.nodes() if node["Alive"]]
        return max(1, min((count for count in found if count), default=1))

    def lacking(self, order: Order) -> list[str]:
        """Name the resources that no node has."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [name for name in order.needs if not any(name in resources for resources in nodes)]

    def begin(self, order: Order) -> None:
        """Give the order to Ray, which finds a node; what only this machine may do is done here."""
        if order.is_local:
            future = self._pool.submit(perform, order, version(), started=self._processes.append)
            self._local[future] = order.name
            return
        needs = dict(order.needs)
        gpus = int(order.wants_gpu and "GPU" in self._ray.cluster_resources())
        task = self._perform.options(
            name=order.name, num_cpus=order.cpus, num_gpus=gpus, resources=needs, max_retries=0
        )
        self._remote[task.remote(order, version(), gpus)] = order.name

    def next(self) -> tuple[str, Outcome | None]:
        """Wait until one of them has ended, and forget it."""
        while True:
            if self._local:
                done, _ = wait(self._local, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED)
                for future in done:
                    return self._local.pop(future), future.result()
            ready, _ = self._ray.wait([*self._remote], timeout=LOOK_EVERY_S) if self._remote else ([], [])
            for handle in ready:
                return self._remote.pop(handle), self._result(handle)

    def _result(self, handle: Any) -> Outcome | None:
        try:
            found: Outcome = self._ray.get(handle)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ImportError):  # an order cannot even be read there
                what = f"a node cannot load modelwright {version()}: {str(error.cause).splitlines()[0]}"
                return Outcome(Exit.USAGE, error=what, hint="install the same version on all nodes")
            raise error.as_instanceof_cause() from None  # our own code failed: no other node helps
        except self._ray.exceptions.RayError:
            return None
        return found
