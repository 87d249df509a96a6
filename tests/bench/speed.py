"""Compare what `verify` measures of a GGUF with what llama-bench and time(1) measure, taken in turns.

python -m tests.bench.speed [--llama-bench build/bin/llama-bench] [MODEL.gguf]

llama-bench is run on the same libraries as ours, those of llama-cpp-python: another build of the same source
differed by 7 % here. Without a model a random one of 0.25 billion weights is made.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests import tiny
from tests.bench import peers
from tests.gguf import oracle
from verify.measure import prompt
from verify.runtimes import Request, RuntimeSettings
from verify.worker import Launch, Worker

PROMPT, ANSWER = 256, 64
SIZES = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
ALONE = """
import sys
from verify.runtimes import Request, RuntimeSettings, llama_cpp
opened = llama_cpp.open_runtime(sys.argv[1], RuntimeSettings(threads=int(sys.argv[2])))
list(opened.generate(Request(ids=tuple(range(3, 259)), max_tokens=64, ignores_end=True)))
"""


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument(
        "--llama-bench", type=Path, default=peers.tool("llama-bench"), help="llama.cpp's own tool"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = asked.model or make(Path(folder))
        compare_memory(model, asked.threads)
        if asked.llama_bench:
            compare_speed(model, asked.llama_bench, asked.threads, asked.rounds)
        else:
            print("speed: to compare, name or build llama-bench: see tests/bench/peers.py")


def make(folder: Path) -> Path:
    """A model large enough that a token takes milliseconds."""
    source = tiny.make(folder / "source", tiny.Recipe("qwen2", SIZES, spread=0.02))
    return oracle.convert_folder(source, folder / "out", ["Q4_K_M"])["Q4_K_M"][0]


def compare_speed(model: Path, tool: Path, threads: int, rounds: int) -> None:
    """Take turns, a process of its own for each."""
    ours: dict[str, list[float]] = {"prefill": [], "decode": []}
    theirs: dict[str, list[float]] = {"prefill": [], "decode": []}
    for number in range(rounds):
        for name, value in llama_bench(model, tool, threads).items():
            theirs[name].append(value)
        with Worker(Launch("llama_cpp", model, RuntimeSettings(threads=threads))) as worker:
            list(worker.generate(prompt(worker.info, PROMPT, 2, "warm-up")))
            first, *_ = worker.generate(prompt(worker.info, PROMPT, 2, str(number)))
            ours["prefill"].append(PROMPT / first.t_s)
            # llama-bench decodes from an empty cache
            pieces = list(worker.generate(prompt(worker.info, 1, ANSWER + 1, str(number))))
            ours["decode"].append(ANSWER / (pieces[-1].t_s - pieces[0].t_s))
    for name, mine in ours.items():
        here, there = statistics.median(mine), statistics.median(theirs[name])
        best = max(mine) / max(theirs[name])
        print(f"{name}: {here:.1f} tok/s, llama-bench {there:.1f}: {here / there:.3f} (best runs {best:.3f})")


def llama_bench(model: Path, tool: Path, threads: int) -> dict[str, float]:
    """One run of llama.cpp's tool."""
    command = [str(tool), "-m", str(model), "-p", str(PROMPT), "-n", str(ANSWER), "-t", str(threads)]
    spec = find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    libraries = {"LD_LIBRARY_PATH": str(Path(spec.origin).parent / "lib")}
    done = subprocess.run(
        [*command, "-r", "1", "-o", "json"], capture_output=True, check=True, env=os.environ | libraries
    )
    rows = json.loads(done.stdout)
    return {"prefill" if row["n_prompt"] else "decode": float(row["avg_ts"]) for row in rows}


def compare_memory(model: Path, threads: int) -> None:
    """The same answer, in a worker and in a process that time(1) looks at."""
    time = shutil.which("time")
    if time is None:
        print("memory: time(1) is not installed")
        return
    command = [time, "-v", sys.executable, "-c", ALONE, str(model), str(threads)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    (line,) = (line for line in said.splitlines() if "Maximum resident" in line)
    theirs = int(line.split()[-1]) << 10
    with Worker(Launch("llama_cpp", model, RuntimeSettings(threads=threads))) as worker:
        list(worker.generate(Request(ids=tuple(range(3, 259)), max_tokens=64, ignores_end=True)))
        ours = worker.peaks().rss_bytes
    print(f"peak RSS: {ours / 2**20:.1f} MiB, time(1) {theirs / 2**20:.1f} MiB: {ours / theirs:.4f}")


if __name__ == "__main__":
    main()
