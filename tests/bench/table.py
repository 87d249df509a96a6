"""The tables of docs/measured.md, from what runs of the bench have left in docs/bench."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

from convert.size import size
from tests.bench.record import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
OURS, FLOOR = "modelwright", "floor"
HEAD = (
    *("", "wall", "CPU", "peak resident", "anonymous", "read", "written"),
    *("wall, times ours", "CPU, times ours"),
)
FIRST = "Our first run, with a cold source, its digests to be computed and kernels to be compiled"
TIMES, AMOUNTS = ("wall_s", "cpu_s"), ("peak_rss_bytes", "peak_anon_bytes")
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}


def tables(folder: Path = FOLDER) -> str:
    """Write a table for each machine."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    return "".join(f"{line}\n" for each in found for line in machine_lines(each))


def machine_lines(record: dict[str, Any]) -> Iterator[str]:
    """Write what one machine found: a line of what it is, and a table of all its cases."""
    cases = record["cases"]
    yield f"{_machine(cases)}:"
    yield ""
    yield f"| {' | '.join(HEAD)} |"
    yield f"|---|{'--:|' * (len(HEAD) - 1)}"
    for case in cases.values():
        yield f"| **{case['title']}**{_checked(case['checks'])} |{' |' * (len(HEAD) - 1)}"
        for name, route in case["routes"].items():
            yield f"| {' | '.join(_cells(name, route, case['routes'][OURS]))} |"
    yield ""
    firsts = (f"{case['title']} {case['routes'][OURS]['first']['wall_s']:.1f} s" for case in cases.values())
    yield f"{FIRST}: {'; '.join(firsts)}."


def _cells(name: str, route: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    """Write a route's medians, what it read from a cold disk, and its ratios round by round."""
    rounds = route["rounds"]
    yield name
    for key in TIMES:
        yield f"{_median(rounds, key):.1f} s"
    for key in AMOUNTS:
        yield f"{max(each[key] for each in rounds) / 2**30:.2f} GiB"
    yield size(route["first"]["read_bytes"])
    yield size(_median(rounds, "written_bytes"))
    for key in TIMES:
        yield "1" if route is ours else _ratio(rounds, ours["rounds"], key)


def _ratio(theirs: list[dict[str, float]], ours: list[dict[str, float]], key: str) -> str:
    """Write the median of the rounds' ratios, and the least and the largest of them."""
    found = [there[key] / here[key] for there, here in zip(theirs, ours, strict=True)]
    spread = f" ({min(found):.2f} to {max(found):.2f})" if len(found) > 1 else ""
    return f"{statistics.median(found):.2f}{spread}"


def _median(rounds: list[dict[str, float]], key: str) -> float:
    return statistics.median(each[key] for each in rounds)


def _machine(cases: dict[str, Any]) -> str:
    machine = next(iter(cases.values()))["machine"]
    vectors = next((VECTORS[name] for name in VECTORS if name in machine["instructions"]), "no vectors")
    versions = machine["versions"]
    rounds = sorted({len(case["routes"][OURS]["rounds"]) for case in cases.values()})
    loads = [case["machine"]["load_average"] for case in cases.values()]
    dates = sorted({case["date"] for case in cases.values()})
    packages = ("llama-cpp-python", "onnxruntime-genai", "GPTQModel", "mlx-lm", "torch", "numpy")
    shown = ", ".join(f"{name} {versions[name]}" for name in packages if name in versions)
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB"
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    how = f"medians of {' or '.join(map(str, rounds))} rounds in turns"
    load = f"load {min(loads):.1f} to {max(loads):.1f} before"
    cpu = f"{machine['cpu']}, {machine['cores']} cores with {vectors}"
    return f"{cpu}, {memory}; {when}, {how}, {load}; {shown}"


def _checked(checks: dict[str, Any]) -> str:
    """Say what was compared in what the routes left."""
    if "differing" in checks:
        what = next(name for name in checks if name != "differing")
        return f": {checks['differing']} of {checks[what]} {what} differ"
    return "".join(f"; {name} {value}" for name, value in checks.items())
