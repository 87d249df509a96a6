"""Compare the time that `plan` foresees with what conversions take, for models and targets of several sizes.

python -m tests.bench.estimate [--sizes tiny half whole] [--targets Q4_K_M onnx …]

On a machine that does nothing else the wall is compared; on a busy one the CPU seconds say more. Sources are
digested before, as those that were downloaded are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import checkpoint, gptq
from tests.bench.cases import INT4, OURS, Place
from tests.bench.checkpoint import ROOT, Shape
from tests.gptq.text import to_learn_from

if TYPE_CHECKING:
    from tests.bench.harness import Route

SHAPES = {"half": Shape(layers=24, hidden=896, heads=14, mlp=4864), "whole": Shape()}
TARGETS = {
    "Q4_K_M": "gguf: {quants: [Q4_K_M]}",
    "three": "gguf: {quants: [Q4_K_M, Q5_K_M, Q8_0]}",
    "IQ4_XS": "gguf: {quants: [IQ4_XS]}",
    "F16": "gguf: {quants: [F16]}",
    "onnx": INT4,
    "hf": "hf: {}",
    "imatrix": "gguf: {quants: [Q4_K_M], imatrix: calibration}",
    "gptq": gptq.TARGET,
}
LEARNS = {"imatrix", "gptq"}


def main() -> None:
    """Plan, convert, and print both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = ("tiny", *SHAPES)
    parser.add_argument("--work", type=Path, default=ROOT / "bench" / "out", help="where models and files go")
    parser.add_argument("--sizes", nargs="+", choices=sizes, default=sizes)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=tuple(TARGETS))
    asked = parser.parse_args()
    place = Place(asked.work.resolve())
    place.work.mkdir(parents=True, exist_ok=True)
    print(f"{'':16} {'plan':>8} {'took':>8} {'ratio':>6}   {'plan':>8} {'CPU':>8} {'ratio':>6}   load")
    for size in asked.sizes:
        model = _model(place, size)
        place.ours(model, "hf: {}", name="digested").run()
        shutil.rmtree(place.out("digested"))
        for name in asked.targets:
            _compare(place, model, f"{size} {name}", name)


def _model(place: Place, size: str) -> Path:
    if size == "tiny":
        return gptq.TINY
    folder = place.work / f"model-{size}"
    checkpoint.make_checkpoint(folder, SHAPES[size])
    return folder


def _compare(place: Place, model: Path, title: str, name: str) -> None:
    more = gptq.CALIBRATION.format(folder=place.work) if name in LEARNS else ""
    if more:
        (place.work / "learn.txt").write_text(to_learn_from(), "utf-8")
    route = place.ours(model, TARGETS[name], more=more)
    ((program, _, _, recipe, *_),) = route.commands
    planned = _plan((program, "plan", recipe, "--out", str(place.out(OURS)), "--json"), route)
    cost = route.run()
    shutil.rmtree(place.out(OURS))
    core_s = sum(step["core_s"] for step in planned["steps"])
    wall_s = planned["estimated_s"]
    print(
        f"{title:16} {wall_s:8.1f} {cost.wall_s:8.1f} {wall_s / cost.wall_s:6.2f}   "
        f"{core_s:8.1f} {cost.cpu_s:8.1f} {core_s / cost.cpu_s:6.2f}   {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    for step in planned["steps"]:
        print(
            f"  {step['label']:20} {step['seconds']:8.1f} {step['core_s']:8.1f}  {step['limit']}", flush=True
        )


def _plan(command: tuple[str, ...], route: Route) -> dict[str, Any]:
    environment = {**os.environ, **route.environment}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if said.returncode:
        sys.exit(said.stderr)
    answer: dict[str, Any] = json.loads(said.stdout)
    return answer


if __name__ == "__main__":
    main()
