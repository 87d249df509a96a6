"""What orders have cost, as metrics that Ray hands to Prometheus."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from convert.fleet.node import perform

if TYPE_CHECKING:
    from convert.fleet.order import Order, Outcome

TAGS = ("recipe", "stage")


def counted(order: Order, wanted_version: str, gpus: int = 0) -> Outcome:
    """Carry out an order on a node of Ray's, and count it there."""
    outcome = perform(order, wanted_version, gpus)
    tags = {"recipe": order.recipe, "stage": order.stage}
    counters = _counters()
    counters["orders"].inc(1, {**tags, "exit_code": str(int(outcome.exit_code))})
    for name, seconds in (("wall", outcome.wall_s), ("cpu", outcome.cpu_s), ("gpu", outcome.gpu_s)):
        if seconds > 0:
            counters[name].inc(seconds, tags)
    return outcome


@cache
def _counters() -> dict[str, Any]:
    from ray.util.metrics import Counter  # noqa: PLC0415 - in the processes of nodes alone

    found = {
        name: Counter(f"modelwright_{name}_seconds", f"{what} seconds of orders that ended", TAGS)
        for name, what in (("wall", "Wall"), ("cpu", "CPU"), ("gpu", "GPU"))
    }
    return {"orders": Counter("modelwright_orders", "Orders that ended", (*TAGS, "exit_code")), **found}
