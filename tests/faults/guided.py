"""A fuzzer that follows coverage: `make faults-guided`, or `python -m tests.faults.guided KIND --seconds N`.

Needs atheris (`pip install 'atheris>=3.0'`). Only our modules are instrumented. It starts from samples and
mutants of `make faults`, and changes them by libFuzzer or as those are made. A defect is what it is there.
"""

from __future__ import annotations

import argparse
import importlib
import random
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
SEEDS = 200  # mutants to begin with
LONGEST_BYTES = 1 << 16
SILENCE_S = 120  # of wall time for one input, as in a sweep


@dataclass(frozen=True)
class Fuzzed:
    """What became of the inputs of one kind."""

    inputs: int
    edges: int  # of our code, that were reached
    defects: tuple[str, ...]


def fuzz(name: str, seconds: float, seed: int = 1) -> Fuzzed:
    """Fuzz the reader of one kind in a child."""
    with tempfile.TemporaryDirectory(prefix="guided-") as place:
        command = [sys.executable, "-m", "tests.faults.guided", "--within", place, name]
        command += ["--seconds", str(max(1, round(seconds))), "--seed", str(seed)]
        ended = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False
        )
        said = ended.stdout + ended.stderr
        defects = re.findall(r"^defect (.*)$", said, re.MULTILINE)
        done = re.search(r"^Done (\d+) runs", said, re.MULTILINE)
        if ended.returncode or not done:
            kept = [each.read_bytes()[:400] for each in Path(place).glob("ended-*")]
            tail = "\n".join(said.splitlines()[-12:])
            defects.append(f"the process ended with {ended.returncode}: {tail}\n{kept}")
        edges = [int(count) for count in re.findall(r"\bcov: (\d+)", said)]
        return Fuzzed(int(done[1]) if done else 0, max(edges, default=0), tuple(defects))


def within(name: str, seconds: int, seed: int, place: Path) -> None:
    """Fuzz in this process, which libFuzzer ends."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["convert", "verify"]):
        batch = importlib.import_module("tests.faults.batch")
        kinds = importlib.import_module("tests.faults.kinds")
        mutate = importlib.import_module("tests.faults.mutate")
    kind = kinds.KINDS[name]
    corpus = kinds.emptied(place / "corpus")
    samples, draw = kind.samples(kinds.emptied(place / "samples")), random.Random(f"{seed} {name}")
    mutants = [mutate.mutant(draw.choice(samples), draw, is_json=kind.is_json) for _ in range(SEEDS)]
    for number, data in enumerate((*samples, *mutants)):
        (corpus / str(number)).write_bytes(data[:LONGEST_BYTES])
    batch.bound_memory()
    seen: set[str] = set()

    def read(data: bytes) -> None:
        what = batch.defect(name, data, place / "one")
        key = what and re.sub(r"\d+", "", what)
        if key and key not in seen:
            seen.add(key)
            print(f"\ndefect {name}: {what}: {data[:400]!r}", flush=True)

    def change(data: bytes, most: int, number: int) -> bytes:
        if number % 2:
            return bytes(atheris.Mutate(data, most))
        return bytes(mutate.mutant(data, random.Random(number), is_json=kind.is_json)[:most])

    options = {
        "max_total_time": seconds, "timeout": SILENCE_S, "max_len": LONGEST_BYTES, "seed": seed,
        "rss_limit_mb": 0, "artifact_prefix": f"{place}/ended-",
    }  # fmt: skip
    flags = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], read, custom_mutator=change)
    atheris.Fuzz()


def main(words: Sequence[str] | None = None) -> int:
    """Fuzz each kind in turn; a line for each defect, and one for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=180, help="for each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    asked = parser.parse_args(words)
    if asked.within:
        within(asked.kinds[0], asked.seconds, asked.seed, asked.within)
    total = 0
    for name in asked.kinds or importlib.import_module("tests.faults.kinds").KINDS:
        found = fuzz(name, asked.seconds, asked.seed)
        for line in found.defects:
            print(line)
        print(f"{name}: {found.inputs} inputs, {found.edges} edges, {len(found.defects)} defects", flush=True)
        total += len(found.defects)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
