"""GPTQ of Qwen-7B's shape on a GPU, by our own engine and by GPTQModel, in turns.

python -m tests.bench.gpu --layers 8 --samples 128 --rounds 2 --work /tmp/gpu

Weights are random, so that the time says something and the quality does not. All layers are alike: what a
layer takes, times 32, is the model's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.checkpoint import Shape, make_checkpoint

LENGTH, HIDDEN, HEADS, MLP = 2048, 4096, 32, 11008
RECIPE = """model: {model}
targets:
  gptq: {{bits: 4, group_size: 128, damp: 0.01, engine: native}}
calibration: {{text: {text}, samples: {samples}, length: {length}, device: {device}}}
"""
PEER = """
import json, os, sys, time
os.chdir(sys.argv[3])
import torch
from gptqmodel import GPTQModel
from gptqmodel.quantization.config import GPTQConfig
text = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in json.load(open(sys.argv[2]))]
began_s = time.monotonic()
model = GPTQModel.load(sys.argv[1], GPTQConfig(bits=4, group_size=128, damp_percent=0.01))
model.quantize(text, batch_size=1)
model.save(sys.argv[3] + "/peer")
print("seconds", time.monotonic() - began_s, "gpu_gb", torch.cuda.max_memory_allocated() / 1e9, flush=True)
os._exit(0)
"""


def ours(work: Path, model: Path, samples: int, device: str) -> dict[str, Any]:
    """Convert in a process of its own, from nothing that was kept; say what its stages took."""
    recipe = work / "ours.yaml"
    text = RECIPE.format(model=model, text=work / "learn.txt", samples=samples, length=LENGTH, device=device)
    recipe.write_text(text, "utf-8")
    shutil.rmtree(work / "out", ignore_errors=True)
    command = [sys.executable, "-m", "convert.cli", "convert", str(recipe), "--out", str(work / "out")]
    began_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took_s = time.monotonic() - began_s
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    print(done.stderr[-1500:])
    return {"who": "ours", "seconds": took_s}


def peer(work: Path, model: Path, windows: Path) -> dict[str, Any]:
    """Quantize by GPTQModel, which a process of its own loads."""
    command = [sys.executable, "-c", PEER, str(model), str(windows), str(work)]
    began_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took_s = time.monotonic() - began_s
    if done.returncode or "seconds" not in done.stdout:
        return {"who": "GPTQModel", "failed": (done.stdout + done.stderr)[-1500:]}
    words = done.stdout.split("seconds ")[-1].split()
    return {"who": "GPTQModel", "seconds": took_s, "inside_s": float(words[0]), "gpu_gb": float(words[2])}


def main() -> None:
    """Print each turn, and the ratio of the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--alone", action="store_true", help="without GPTQModel")
    asked = parser.parse_args()
    work = asked.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    model = work / f"model-{asked.layers}"
    make_checkpoint(model, Shape(asked.layers, HIDDEN, HEADS, MLP))
    (work / "learn.txt").write_text(_text(asked.samples * LENGTH), "utf-8")
    turns = []
    for _ in range(asked.rounds):
        turns.append(ours(work, model, asked.samples, asked.device))
        print(json.dumps(turns[-1]), flush=True)
        if not asked.alone:
            turns.append(peer(work, model, _windows(work, asked.samples)))
            print(json.dumps(turns[-1]), flush=True)
    taken = {
        who: median(each["seconds"] for each in turns if each["who"] == who and "seconds" in each)
        for who in {each["who"] for each in turns if "seconds" in each}
    }
    print(json.dumps({who: round(seconds, 1) for who, seconds in taken.items()}), f"cores {os.cpu_count()}")


def _text(tokens: int) -> str:
    """Write words without end, more than so many tokens."""
    return " ".join(f"word {number} and {number * 7919 % 10007}" for number in range(tokens // 3))


def _windows(work: Path, samples: int) -> Path:
    """Give GPTQModel as many windows of tokens."""
    path = work / "windows.json"
    path.write_text(
        json.dumps([[(at * 31 + row) % 150_000 for at in range(LENGTH)] for row in range(samples)])
    )
    return path


if __name__ == "__main__":
    main()
