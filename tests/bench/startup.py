"""What a command costs before its work begins, on a model of 7.6 billion weights with a real vocabulary.

The weights are holes in a sparse file, and the home is a new one, so that the first run finds no notes.

python -m tests.bench.startup
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.checkpoint import ROOT, make_sparse

PROGRAM = str(Path(sys.executable).parent / "modelwright")
QWEN: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "vocab_size": 152_064,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
    "eos_token_id": 151_645,
}
# The same vocabulary before few weights, to be converted in no time.
NARROW = {**QWEN, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1} | {
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}


def run(command: list[str], home: Path) -> tuple[float, float, float]:
    """Run a command; return its seconds, those of its cores, and those until it first said something."""
    began, before = time.perf_counter(), os.times()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "XDG_CACHE_HOME": str(home)},
    )
    assert process.stdout is not None
    said = process.stdout.read(1)
    first_s = time.perf_counter() - began
    said += process.stdout.read()
    if process.wait():
        sys.exit(f"{' '.join(command)}: {said.decode()}")
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, cpu_s, first_s


def report(name: str, command: list[str], home: Path, rounds: int) -> None:
    """Print the medians of some rounds."""
    wall, cpu, first = (
        statistics.median(each) for each in zip(*(run(command, home) for _ in range(rounds)), strict=True)
    )
    print(f"{name:36} {wall:6.2f} s wall {cpu:6.2f} s CPU, first byte after {first:.2f} s", flush=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=ROOT / "bench" / "out", help="where models and files go")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    work, rounds = asked.work.resolve() / "startup", asked.rounds
    shutil.rmtree(work, ignore_errors=True)
    home = work / "home"
    recipes: dict[str, str] = {}
    for name, values in (("large", QWEN), ("narrow", NARROW)):
        make_sparse(work / name, values)
        recipes[name] = str(work / f"{name}.yaml")
        quants = "gguf: {quants: [Q4_K_M, Q8_0]}" if name == "large" else "gguf: {quants: [Q8_0]}"
        Path(recipes[name]).write_text(f"model: {work / name}\ntargets: {{{quants}}}\n")
    out = ["--out", str(work / "out")]
    report("modelwright --help", [PROGRAM, "--help"], home, rounds)
    report("plan, 7.6 B weights, first time", [PROGRAM, "plan", recipes["large"], *out], home, 1)
    report("plan, 7.6 B weights, again", [PROGRAM, "plan", recipes["large"], *out], home, rounds)
    report("convert, 10 M weights", [PROGRAM, "convert", recipes["narrow"], *out], home, 1)
    report("convert with nothing to do", [PROGRAM, "convert", recipes["narrow"], *out], home, rounds)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
