"""Drive a fleet: give orders when what they need is over, try again elsewhere, and tell what happens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from convert.errors import Exit
from convert.fleet.order import MOST_TRIES, Order, Outcome, Record, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

OVER = frozenset({State.DONE, State.GATE_FAILED, State.FAILED, State.SKIPPED})
GOOD = frozenset({State.DONE, State.GATE_FAILED})


class Nodes(Protocol):
    """Machines that carry out orders."""

    def begin(self, order: Order) -> None:
        """Give an order to a node that has what it needs, as soon as there is one."""

    def next(self) -> tuple[str, Outcome | None]:
        """Wait for an order to end; None where its node died."""


def drive(
    orders: Iterable[Order], nodes: Nodes, tell: Callable[[Record], None] = lambda _: None
) -> Mapping[str, Record]:
    """Carry out all orders; one that fails takes with it only those that need what it makes."""
    records = {order.name: Record(order) for order in orders}
    running: set[str] = set()
    while True:
        for record in records.values():
            if record.state is State.WAITING and _is_ready(record, records):
                record.order = _without_lost(record.order, records)
                if _is_hopeless(record, records):
                    record.state = State.SKIPPED
                else:
                    record.state = State.RUNNING
                    record.tries += 1
                    nodes.begin(record.order)
                    running.add(record.order.name)
                tell(record)
        if not running:
            if all(record.state in OVER for record in records.values()):
                return records
            continue  # what was skipped may have freed others
        name, outcome = nodes.next()
        running.discard(name)
        _settle(records[name], outcome)
        tell(records[name])


def _settle(record: Record, outcome: Outcome | None) -> None:
    """Decide what comes of an order that ended."""
    found = outcome or Outcome(Exit.FAILED, error="its node died", hint="look at the node's own log")
    record.add(found)
    if found.exit_code in (Exit.DONE, Exit.GATE_FAILED):
        is_done = found.exit_code == Exit.DONE
        record.state = State.DONE if is_done else State.GATE_FAILED
    elif found.exit_code == Exit.USAGE or record.tries >= MOST_TRIES:
        record.state = State.FAILED
    else:
        record.state = State.WAITING


def _is_ready(record: Record, records: Mapping[str, Record]) -> bool:
    return all(records[name].state in OVER for name in record.order.after)


def _is_hopeless(record: Record, records: Mapping[str, Record]) -> bool:
    """Say whether nothing is left for it to do, or not all that it must have."""
    order = record.order
    needed = [records[name] for name in order.after]
    if order.stage == "verify":
        return not order.targets
    if order.stage == "publish":  # all or nothing, as with `run`; the gate itself looks at verdicts
        return any(each.state not in GOOD for each in needed)
    return any(each.state is not State.DONE for each in needed)


def _without_lost(order: Order, records: Mapping[str, Record]) -> Order:
    """Leave out of a verification what could not be made."""
    if order.stage != "verify":
        return order
    lost = {
        target
        for name in order.after
        if records[name].state not in GOOD
        for target in records[name].order.targets
    }
    return replace(order, targets=tuple(name for name in order.targets if name not in lost))
