"""How often a small budget raises a false alarm, and which planted faults it misses.

Each repetition draws its own text and its own order of dialogues by its number, converts nothing again, and
judges sound artifacts of a tiny trained model as `verify --budget` does. A failed check of one is a false
alarm. The faults are those of tests/verify/test_planted.py, judged with the least that is ever asked.

python -m tests.bench.alarms --record alarms.jsonl --minutes 20

goes on with the repetitions that the record does not have, for as long as given, and counts all in it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from convert import convert_recipe
from convert.formats import recipe_for
from convert.pipeline.stage.judge import write_tokenizer
from convert.recipe import Gates
from tests.verify import planting
from tests.verify import test_planted as planted
from verify import scenarios
from verify.baseline import Source, question_source
from verify.task import Plan, Silence, Subject
from verify.text import join_packs
from verify.workflow import verify_artifacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verify.scenarios.pack import Pack

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "recipes/models/tiny-qwen"
SOUND = ("F16", "Q8_0")
# In each the check that is there for it.
FAULTS = {
    "permuted": "kl_mean",
    "gate and up swapped": "kl_mean",
    "off by one": "tokenizer",
    "no template": "chat_template",
    "other template": "chat_template",
    "end lost": "end_of_turn",
    "context": "context_length",
}


def drawn(packs: Sequence[Pack], seed: int) -> tuple[Pack, ...]:
    """Shuffle the dialogues of each pack: a budget asks the first few."""
    draw = random.Random(seed)
    shuffled = (draw.sample(pack.dialogues, len(pack.dialogues)) for pack in packs)
    return tuple(
        pack.model_copy(update={"dialogues": tuple(each)}) for pack, each in zip(packs, shuffled, strict=True)
    )


def judge_sound(
    home: Path, repetitions: Sequence[int], budget_s: float, record: Path, until_s: float
) -> None:
    """Judge sound artifacts again and again, and record which checks failed each time."""
    targets = ",".join(f"gguf:{quant}" for quant in SOUND)
    recipe = recipe_for(str(MODEL), targets)
    convert_recipe(recipe, out=home, threads=1, offline=True)
    size_bytes = sum(each.stat().st_size for each in MODEL.iterdir())
    source = Source(MODEL, write_tokenizer(MODEL, home / "tokenizer"), None, None, "0" * 64, size_bytes)
    subjects = [Subject(f"gguf-{quant}", home / recipe.name / f"gguf-{quant}") for quant in SOUND]
    shipped, began_s = scenarios.load(scenarios.names()), time.monotonic()
    for done, seed in enumerate(repetitions, 1):
        if time.monotonic() > until_s:
            print(f"{len(repetitions) - done + 1} repetitions are left for the next time")
            return
        packs = drawn(shipped, seed)
        text = join_packs(packs)
        at = text.find("\n\n", random.Random(seed).randrange(len(text) // 2))
        plan = Plan(packs, text[at:], "drawn", threads=1, budget_s=budget_s, measures="quality")
        report = verify_artifacts(subjects, source, plan)
        alarms = [
            f"{each.name}: {check.name}: {check.why}" for each in report.artifacts for check in each.failures
        ]
        with record.open("a", encoding="utf-8") as file:
            print(json.dumps({"seed": seed, "judged": len(report.artifacts), "alarms": alarms}), file=file)
        asked = report.scope.words() if report.scope else {}
        took_s = time.monotonic() - began_s
        print(f"{done} of {len(repetitions)} ({took_s / done:.1f} s each): {asked}", flush=True)


def recorded(path: Path) -> dict[int, dict[str, Any]]:
    """Read what is recorded, by the number of the repetition."""
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return {found["seed"]: found for found in map(json.loads, lines)}


def find_faults(home: Path) -> dict[str, bool]:
    """Judge each planted fault with the least that is asked; return whether its check found it."""
    source, plan = planting.make_source(home / "source"), replace(planted.make_plan(), budget_s=1.0)
    asked = Source(
        source, write_tokenizer(source, home / "tokenizer"), None, None, "0" * 64, planted.size_of(source)
    )
    baseline = question_source(asked, plan, home / "cache", Silence())
    sound = planting.convert(source, home / "sound", ["F16", "Q8_0", "Q2_K"])
    ground = planted.Ground(home, source, sound, plan, baseline)
    found: dict[str, bool] = {}
    for name, check in FAULTS.items():
        is_weights = check == "kl_mean"
        path = planted.weights(ground, name) if is_weights else planted.edited(ground, name)
        found[name] = check in planted.caught(ground.examine(path))
    found["two bits"] = "kl_mean" in planted.caught(ground.examine(sound["Q2_K"], gates=Gates()))
    return found


def main() -> None:
    """Print both, and fail where a fault is missed or an alarm in a hundred is false."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--record", type=Path, help="a file that keeps what was found; none by default")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no repetition after so many")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds for each")
    asked = parser.parse_args()
    until_s = time.monotonic() + 60 * asked.minutes
    with TemporaryDirectory(prefix="alarms-") as folder:
        missed = [name for name, is_found in find_faults(Path(folder, "faults")).items() if not is_found]
        print(f"planted faults: {len(FAULTS) + 1 - len(missed)} of {len(FAULTS) + 1} found", *missed)
        record = asked.record or Path(folder, "record.jsonl")
        left = [seed for seed in range(asked.repetitions) if seed not in recorded(record)]
        judge_sound(Path(folder, "sound"), left, asked.budget, record, until_s)
        found = recorded(record).values()
    judged, alarms = sum(each["judged"] for each in found), Counter[str]()
    for each in found:
        alarms.update(each["alarms"])
    print(f"{len(found)} of {asked.repetitions} repetitions are recorded")
    print(f"false alarms: {alarms.total()} in {judged} judgments")
    for what, count in alarms.most_common():
        print(f"  {count} times {what}")
    sys.exit(bool(missed) or alarms.total() >= judged / 100)


if __name__ == "__main__":
    main()
