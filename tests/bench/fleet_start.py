"""What a fleet on one machine costs over `run`: Ray's start, a process for each order, and what lies between.

The two take turns, each in a new folder; the first turns, which fill the caches of both, are not counted.

python -m tests.bench.fleet_start
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.checkpoint import ROOT

PROGRAM = str(Path(sys.executable).parent / "modelwright")


def timed(verb: str, recipe: str, out: Path, *words: str) -> tuple[float, dict[str, Any]]:
    """Run a command; return its seconds and its answer."""
    began = time.perf_counter()
    command = [PROGRAM, verb, recipe, "--out", str(out), "--offline", "--json", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    wall_s = time.perf_counter() - began
    if done.returncode not in (0, 3):  # a gate says nothing of time
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return wall_s, json.loads(done.stdout)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each that are counted")
    parser.add_argument("recipes", nargs="*", default=["tiny-gpt2", "tiny"], help="the recipes")
    given = parser.parse_args()
    for recipe in given.recipes:
        alone: list[float] = []
        fleet: list[float] = []
        around: list[float] = []  # of a fleet, what no order took
        for turn in range(given.rounds + 1):
            with tempfile.TemporaryDirectory() as folder:
                alone_s, _ = timed("run", recipe, Path(folder, "run"))
                fleet_s, said = timed("fleet", recipe, Path(folder, "fleet"), "--no-publish")
            around_s = fleet_s - sum(order["wall_s"] for order in said["orders"])
            if turn:
                alone, fleet, around = [*alone, alone_s], [*fleet, fleet_s], [*around, around_s]
            print(f"# {recipe} {turn}: run {alone_s:.1f} s, fleet {fleet_s:.1f} s ({around_s:.1f} s around)")
        run_s, fleet_s, around_s = map(statistics.median, (alone, fleet, around))
        print(
            f"{recipe}: run {run_s:.1f} s, fleet {fleet_s:.1f} s: {fleet_s - run_s:+.1f} s, "
            f"of which {around_s:.1f} s pass outside of orders",
            flush=True,
        )


if __name__ == "__main__":
    main()
