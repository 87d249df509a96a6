"""A verification's questions, checks and measurements: `python -m tests.verify.golden` records them.

The shipped packs by their digests, each check by its verdicts on every answer of the tests, the figures by
what they make of fixed logits, the rest by its own values.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from convert.recipe import Gates
from tests.verify.answer_cases import ANSWERS
from tests.verify.lesson_cases import LESSONS, REVISIONS
from tests.verify.test_quality import IDS, Table, worker
from verify import scenarios
from verify.gates import BY_ENCODING, GATES, SIZE_RATIOS
from verify.logprobs import compare_logits, cut, save_reference
from verify.measure import SpeedPlan
from verify.parity import TEXTS
from verify.quality import FIGURES, summarize
from verify.revision import REVISION
from verify.scenarios.checks import CHECKS, Context
from verify.task import Plan

RECORD = Path(__file__).with_name("golden.json")
COMMAND = "python -m tests.verify.golden"
ANSWERED = [*ANSWERS, *LESSONS]
PACKS = Path(scenarios.__file__).parent / "packs"


def read() -> dict[str, Any]:
    """Read what was recorded."""
    content: dict[str, Any] = json.loads(RECORD.read_text("utf-8"))
    return content


def found() -> dict[str, Any]:
    """Collect today's questions, checks and measurements."""
    return {
        "packs": {path.name: _sha256(path.read_bytes()) for path in sorted(PACKS.glob("*.yaml"))},
        "texts": _sha256(json.dumps(TEXTS).encode()),
        "checks": {name: _verdicts(name) for name in sorted(CHECKS)},
        "gates": {
            "names": [[gate.name, gate.is_floor] for gate in GATES],
            "limits": Gates().model_dump(mode="json"),
            "by encoding": {name: dict(limits) for name, limits in BY_ENCODING.items()},
            "size ratios": list(SIZE_RATIOS),
        },
        "figures": _figures(),
        "plan": _plan(),
    }


def _verdicts(name: str) -> str:
    """Judge every answer by this check, with each of its options; count and digest the verdicts."""
    check = CHECKS[name]
    cases = [(each, options, replace(seen, answer=said)) for each, options, seen, said, _ in ANSWERED]
    cases += [
        (each, options, Context(answer=said, language=language, earlier=("x", former)))
        for each, options, language, former, said, _ in REVISIONS
    ]
    given = {json.dumps(options): options for each, options, _ in cases if each == name} or {
        "": check.example
    }
    verdicts = ""
    for key in sorted(given):
        options = TypeAdapter(check.options).validate_json(json.dumps(given[key]))
        for number, (_, _, seen) in enumerate(cases):
            ended = replace(seen, end="length" if number % 2 else "end")
            verdicts += "01"[check.judge(ended, options).passed]
    return f"{verdicts.count('1')} of {len(verdicts)} pass: {_sha256(verdicts.encode())[:16]}"


def _figures() -> dict[str, float]:
    windows = cut(IDS, 32)
    with tempfile.TemporaryDirectory() as folder:
        reference = save_reference(worker(Table(1)), windows, Path(folder) / "logits")
        figures = asdict(summarize(compare_logits(worker(Table(2)), reference), windows.length))
    return {name: float(f"{figures[name]:.9g}") for name in FIGURES}


def _plan() -> dict[str, Any]:
    plan = Plan(packs=(), text="", text_name="")
    content: dict[str, Any] = {name: getattr(plan, name) for name in ("tokens", "window", "context")}
    content["speed"] = asdict(SpeedPlan())
    return content


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def record() -> None:
    """Write down what is found today, with its revision."""
    text = json.dumps({"revision": REVISION, **found()}, indent=1, sort_keys=True)
    RECORD.write_text(f"{text}\n", "utf-8")


if __name__ == "__main__":
    record()
