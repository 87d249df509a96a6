"""A record of the bench becomes a table, and a bench counts what a command does."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.bench import table
from tests.bench.harness import Cost, Route, in_turns, measure
from tests.bench.record import Record

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
# It stays for a moment, since memory is looked at from time to time.
CHILD = (
    "import sys, time; held = bytearray(64 << 20); open(sys.argv[1], 'wb').write(held[:3 << 20]); "
    "time.sleep(0.3)"
)
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}, sys.argv[1]], check=True)"


def test_a_record_becomes_a_table_with_ratios_round_by_round(tmp_path: Path) -> None:
    def cost(wall_s: float, written_bytes: int = 10**9) -> Cost:
        return Cost(wall_s, 2 * wall_s, 1 << 30, 1 << 29, 3 * 10**9, written_bytes)

    rounds = {"modelwright": [cost(10), cost(20)], "llama.cpp": [cost(80), cost(200)], "floor": [cost(5)] * 2}
    first = {name: cost(30) for name in rounds}
    checks = {"tensors": 291, "differing": 0}
    for path in (tmp_path / "a.json", tmp_path / "a.json"):  # a case that is measured again is replaced
        Record(path).add(
            "one", title="Q4_K_M", load_average=0.5, source_bytes=1, first=first, rounds=rounds, checks=checks
        )
    assert len(json.loads((tmp_path / "a.json").read_text())["cases"]) == 1
    lines = table.tables(tmp_path).splitlines()
    assert "medians of 2 rounds in turns" in lines[0]
    assert lines[4].startswith("| **Q4_K_M**: 0 of 291 tensors differ |")
    ours, peer, floor = lines[5:8]
    assert ours == "| modelwright | 15.0 s | 30.0 s | 1.00 GiB | 0.50 GiB | 3.00 GB | 1.00 GB | 1 | 1 |"
    assert peer.endswith("| 9.00 (8.00 to 10.00) | 9.00 (8.00 to 10.00) |")
    assert floor.endswith("| 0.38 (0.25 to 0.50) | 0.38 (0.25 to 0.50) |")
    assert lines[-1].endswith("Q4_K_M 30.0 s.")


def test_a_command_is_measured_with_all_that_it_starts(tmp_path: Path) -> None:
    cost = measure([sys.executable, "-c", PARENT, str(tmp_path / "out")])
    assert 3 * MIB <= cost.written_bytes < 4 * MIB
    assert cost.peak_rss_bytes > 64 * MIB
    assert 0 < cost.cpu_s < 20
    assert cost.wall_s > 0


def test_a_command_that_fails_ends_the_bench_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match="exit status 3\nno luck"):
        measure([sys.executable, "-c", "import sys; print('no luck'); sys.exit(3)"])


def test_routes_take_turns_and_leave_nothing_of_the_round_before(tmp_path: Path) -> None:
    order: list[str] = []
    routes = {}
    for name in ("a", "b"):
        made = tmp_path / name
        command = (sys.executable, "-c", f"import os; os.mkdir({str(made)!r})")
        routes[name] = Route((command,), (made,))
    found = in_turns(routes, 2, lambda name, number, _: order.append(f"{name}{number}"))
    assert order == ["a0", "b0", "b1", "a1"]
    assert [len(costs) for costs in found.values()] == [2, 2]
