"""What a run of the bench has found, and the machine that it ran on, as JSON that is kept."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tests.bench.checkpoint import ROOT
from verify.machine import describe_machine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.bench.harness import Cost

FOLDER = ROOT / "docs" / "bench"
SCHEMA = 1


def path_here(folder: Path) -> Path:
    """Name the file of this kind of machine: a later run on one replaces the cases that it repeats."""
    machine = describe_machine()
    vectors = next((name for name in ("avx512f", "avx2", "asimd") if name in machine.instructions), "plain")
    name = f"{machine.cpu}-{machine.cores}-cores-{vectors.removesuffix('f')}"
    return folder / f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


class Record:
    """The cases of one machine; each is written when it is done, so that a run may be ended at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = {"schema": SCHEMA, "cases": {}}
        if path.is_file():
            self._known = json.loads(path.read_text("utf-8"))

    def add(
        self,
        name: str,
        *,
        title: str,
        load_average: float,
        source_bytes: int,
        first: Mapping[str, Cost],
        rounds: Mapping[str, Sequence[Cost]],
        checks: Mapping[str, float],
    ) -> None:
        """Keep a case: what each route cost at first, with a cold source, and then in each round."""
        self._known["cases"][name] = {
            "title": title,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": {**asdict(describe_machine()), "load_average": round(load_average, 1)},
            "source_bytes": source_bytes,
            "checks": dict(checks),
            "routes": {
                route: {"first": _rounded(first[route]), "rounds": [_rounded(cost) for cost in costs]}
                for route, costs in rounds.items()
            },
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._known, indent=1)
        self._path.write_text(f"{text}\n", "utf-8")


def _rounded(cost: Cost) -> dict[str, float]:
    return {name: round(value, 3) for name, value in asdict(cost).items()}
