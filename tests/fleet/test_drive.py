"""Orders are given when they can be, tried again where that may help, and lost ones take only their own."""

from __future__ import annotations

from collections import deque
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from convert.cli.fleet_table import draw
from convert.errors import Exit
from convert.fleet.drive import drive
from convert.fleet.order import MOST_TRIES, Order, Outcome, Record, State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DONE = Outcome(Exit.DONE, node="a", wall_s=2.0, cpu_s=1.0)


def order(stage: str, subject: str, *targets: str, after: tuple[str, ...] = (), local: bool = False) -> Order:
    return Order("m", stage, subject, (stage,), "m.yaml", "", targets, after=after, is_local=local)


READ = order("convert", "read", "gguf-Q8_0", "onnx")
TOOL = order("convert", "gptq", "gptq")
JUDGE = order("verify", "any", "gguf-Q8_0", "onnx", "gptq", after=(READ.name, TOOL.name))
SEND = order("publish", "all", after=(READ.name, TOOL.name, JUDGE.name), local=True)
ALL = (READ, TOOL, JUDGE, SEND)


class Scripted:
    """Nodes that answer as they are asked to; the last order that was given ends first."""

    def __init__(self, answers: Mapping[str, Callable[[int], Outcome | None]] | None = None) -> None:
        self.answers = answers or {}
        self.given: list[Order] = []
        self._running: deque[str] = deque()

    def begin(self, order: Order) -> None:
        self.given.append(order)
        self._running.append(order.name)

    def next(self) -> tuple[str, Outcome | None]:
        name = self._running.pop()
        tries = sum(each.name == name for each in self.given)
        answer = self.answers.get(name)
        return name, answer(tries) if answer else DONE


def names(nodes: Scripted) -> list[str]:
    return [order.name for order in nodes.given]


def test_what_waits_is_given_when_the_rest_is_over() -> None:
    nodes = Scripted()
    records = drive(reversed(ALL), nodes)
    assert {record.state for record in records.values()} == {State.DONE}
    assert sorted(names(nodes)[:2]) == sorted([READ.name, TOOL.name])
    assert names(nodes)[2:] == [JUDGE.name, SEND.name]
    assert (records[READ.name].wall_s, records[READ.name].cpu_s) == (2.0, 1.0)


def test_a_dead_node_s_order_goes_to_another() -> None:
    nodes = Scripted({READ.name: lambda tries: DONE if tries == 2 else None})
    records = drive(ALL, nodes)
    assert records[READ.name].state is State.DONE
    assert records[READ.name].tries == 2
    assert records[SEND.name].state is State.DONE


def test_an_order_that_fails_for_good_takes_only_what_needs_it() -> None:
    failed = Outcome(Exit.FAILED, error="no", hint="yes")
    nodes = Scripted({TOOL.name: lambda _: failed})
    records = drive(ALL, nodes)
    assert (records[TOOL.name].state, records[TOOL.name].tries) == (State.FAILED, MOST_TRIES)
    assert records[JUDGE.name].state is State.DONE  # of what there is
    assert nodes.given[-1].command == ("verify", "--only", "gguf-Q8_0", "--only", "onnx")
    assert records[SEND.name].state is State.SKIPPED


def test_a_mistake_is_not_tried_again() -> None:
    nodes = Scripted({name: lambda _: Outcome(Exit.USAGE, error="typo") for name in (READ.name, TOOL.name)})
    records = drive(ALL, nodes)
    assert [records[each.name].state for each in ALL] == [
        *(State.FAILED, State.FAILED),
        *(State.SKIPPED, State.SKIPPED),
    ]
    assert names(nodes) == [READ.name, TOOL.name]


def test_a_gate_that_failed_is_for_publishing_to_judge() -> None:
    nodes = Scripted({JUDGE.name: lambda _: Outcome(Exit.GATE_FAILED)})
    records = drive(ALL, nodes)
    assert records[JUDGE.name].state is State.GATE_FAILED
    assert records[SEND.name].state is State.DONE


@pytest.mark.parametrize(("height", "lines"), [(24, 5), (5, 3)])
def test_a_table_of_artifacts_or_where_it_would_be_too_high_of_recipes(height: int, lines: int) -> None:
    records = {each.name: Record(each) for each in ALL}
    records[READ.name].state, records[TOOL.name].state = State.DONE, State.RUNNING
    written = StringIO()
    Console(width=80, file=written, color_system=None).print(draw(records.values(), height, 75.0))
    said = written.getvalue().splitlines()
    assert len(said) == lines
    assert "✓" in said[1]
    assert "…" in said[1 if lines == 3 else 3]
    assert said[-1].startswith(" 1 of 4 orders over, 75 s    · waiting  … running  ✓ done")


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_parts_that_cannot_be_made_leave_nothing_to_assemble(lost: int) -> None:
    parts = [order("part", f"{number}/3", "gguf-Q8_0") for number in (1, 2, 3)]
    whole = order("assemble", "all", "gguf-Q8_0", after=tuple(part.name for part in parts))
    nodes = Scripted({parts[lost - 1].name: lambda _: None})
    records = drive([whole, *parts], nodes)
    assert records[whole.name].state is State.SKIPPED
    assert records[parts[lost - 1].name].outcome is not None
    assert "node died" in str(records[parts[lost - 1].name].outcome)
