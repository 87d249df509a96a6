"""Measure our routes and those of others in turns, on the same checkpoints.

python -m tests.bench                         every case, five rounds
python -m tests.bench one iq4 --rounds 1 --layers 2
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from pathlib import Path

from convert.size import size
from tests.bench import peers
from tests.bench.cases import CASES, FLOOR, HIDDEN, OURS, Case, Place
from tests.bench.checkpoint import ROOT
from tests.bench.harness import Cost, Route, forget, in_turns
from tests.bench.record import FOLDER, Record, path_here


def main() -> None:
    """Run what was asked for, and keep what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=24, help="of the dense model; Qwen-1.8B has 24")
    parser.add_argument("--expert-layers", type=int, default=4, help="of the mixture; Qwen3-30B-A3B has 48")
    parser.add_argument("--hidden", type=int, default=HIDDEN, help="size; less only to try the bench itself")
    parser.add_argument("--work", type=Path, default=ROOT / "bench" / "out", help="where models and files go")
    parser.add_argument("--record", type=Path, default=FOLDER, help="the folder of the JSON that is kept")
    parser.add_argument("--build", action="store_true", help="build llama.cpp's programs if they are missing")
    asked = parser.parse_args()
    if unknown := set(asked.cases) - CASES.keys():
        parser.error(f"{', '.join(sorted(unknown))}: not a case; these are: {', '.join(CASES)}")
    if asked.build:
        peers.build()
    place = Place(asked.work.resolve(), asked.layers, asked.expert_layers, asked.hidden)
    (place.work / "out").mkdir(parents=True, exist_ok=True)
    record = Record(path_here(asked.record))
    for name in asked.cases or CASES:
        try:
            case = CASES[name](place)
        except LookupError as error:
            sys.exit(f"{name}: {error}")
        # Digests and kernels that were kept: the first run of each case is a first run.
        shutil.rmtree(place.work / "cache", ignore_errors=True)
        run(name, case, asked.rounds, record)
        shutil.rmtree(place.work / "out")
        (place.work / "out").mkdir()


def run(name: str, case: Case, rounds: int, record: Record) -> None:
    """Run each route once with a cold source, check what they left, and then measure in turns."""
    source_bytes = sum(path.stat().st_size for path in case.sources)
    load = os.getloadavg()[0]
    print(f"{name}: {case.title}, from {size(source_bytes)}, load {load:.1f}", flush=True)
    first = {route: _first(route, each, case) for route, each in case.routes.items()}
    checks = case.check()
    print(f"  {', '.join(f'{key} {value}' for key, value in checks.items())}", flush=True)
    floor = case.floor()
    first[FLOOR] = _first(FLOOR, floor, case)
    found = in_turns({**case.routes, FLOOR: floor}, rounds, _say)
    for path in floor.leaves:
        path.unlink()
    mine = found[OURS]
    for route, costs in found.items():
        wall = statistics.median(there.wall_s / here.wall_s for there, here in zip(costs, mine, strict=True))
        cpu = statistics.median(there.cpu_s / here.cpu_s for there, here in zip(costs, mine, strict=True))
        print(f"  {route}: {wall:.2f} times our wall, {cpu:.2f} times our CPU", flush=True)
    record.add(
        name,
        title=case.title,
        load_average=load,
        source_bytes=source_bytes,
        first=first,
        rounds=found,
        checks=checks,
    )


def _first(name: str, route: Route, case: Case) -> Cost:
    forget(case.sources)
    cost = route.run()
    _say(name, -1, cost)
    return cost


def _say(name: str, number: int, cost: Cost) -> None:
    print(
        f"  {f'round {number + 1}' if number >= 0 else 'first'}: {name:20} {cost.wall_s:7.1f} s wall "
        f"{cost.cpu_s:7.1f} s CPU {cost.peak_rss_bytes / 2**30:6.2f} GiB resident "
        f"{cost.peak_anon_bytes / 2**30:6.2f} GiB anonymous {size(cost.read_bytes):>8} read "
        f"{size(cost.written_bytes):>8} written",
        flush=True,
    )


if __name__ == "__main__":
    main()
