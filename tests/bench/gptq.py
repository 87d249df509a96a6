"""What GPTQ costs and keeps by our route, beside GPTQModel called directly on the same model and windows.

python -m tests.bench.gptq [--parts tiny random]

`tiny` is the embedded model, which was trained; `random` is larger, and only its costs say something. Both
routes get 4 bits, groups of 64 and the same windows; both are judged on dialogues that neither saw.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from convert import convert_recipe, recipe
from convert.calibration import windows
from convert.child import Limits
from convert.child.process import Process
from convert.formats import option_models
from convert.model.config import read_config
from convert.tokenizer import load
from tests import tiny
from tests.bench.conversion import GIB, ROOT
from tests.gptq.text import held_out, to_learn_from
from verify.logprobs import Windows, save_reference
from verify.quality import Quality, quality
from verify.runtimes import RuntimeSettings
from verify.worker import Launch, Worker

TINY = ROOT / "recipes" / "models" / "tiny-qwen"
SIZES = {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
}
RECIPE = """
model: {model}
targets:
  {target}
calibration: {{text: learn.txt, samples: 64, length: 128}}
"""
TARGET = "gptq: {bits: 4, group_size: 64, damp: 0.01}"
WINDOW, COUNT = 256, 16
DIRECT = """
import json, os, sys
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
from gptqmodel import GPTQModel
from gptqmodel.quantization.config import GPTQConfig
source, windows, out = sys.argv[1:]
text = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in json.load(open(windows))]
model = GPTQModel.load(source, GPTQConfig(bits=4, group_size=64, damp_percent=0.01))
model.quantize(text, batch_size=1)
model.save(out)
"""


@dataclass(frozen=True)
class Cost:
    """What a command took, with all that it started."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.wall_s:7.1f} s wall {self.cpu_s:7.1f} s CPU {self.peak_rss_bytes / GIB:6.2f} GiB resident"
        )


def measure(command: list[str], folder: Path) -> Cost:
    """Run a command in a folder (GPTQModel leaves logs there), and watch it and its children from outside."""
    began, before = time.perf_counter(), os.times()
    limits = Limits(memory_bytes=math.inf, output_bytes=1 << 40)
    process = Process(command, limits, os.environ, folder=folder)
    process.wait(math.inf)
    fault = process.post_mortem()
    if fault.code != 0:
        raise SystemExit(f"{' '.join(command[:4])}: {fault.reason}")
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(time.perf_counter() - began, cpu_s, process.watch.peaks().rss_bytes)


def written(work: Path, model: Path, name: str, target: str) -> Path:
    """Write a recipe beside the text, for a run of the program or of the pipeline."""
    path = work / f"{name}.yaml"
    path.write_text(RECIPE.format(model=model, target=target), "utf-8")
    return path


def canonical(work: Path, model: Path) -> Path:
    """The model as plain safetensors under the names that GPTQModel knows."""
    asked = recipe.load(written(work, model, "plain", "hf: {}"), option_models())
    convert_recipe(asked, out=work / "out", offline=True)
    return work / "out" / "plain" / "hf"


def cut(work: Path, model: Path) -> Path:
    """The windows that our route takes, as a file for GPTQModel's."""
    asked = recipe.load(written(work, model, "cut", TARGET), option_models())
    assert asked.calibration is not None
    config = read_config(model)
    tokenizer = load(model, config.text("model_type"), config.values, config.size("vocab_size"))
    chosen = windows(asked.calibration, work, tokenizer, 2048)
    path = work / "windows.json"
    path.write_text(json.dumps([window.tolist() for window in chosen.tokens]), "utf-8")
    return path


def compare(work: Path, model: Path) -> None:
    """Both routes, one after the other, and what each has lost."""
    (work / "learn.txt").write_text(to_learn_from(), "utf-8")
    plain, text = canonical(work, model), cut(work, model)
    program = str(Path(sys.executable).parent / "modelwright")
    ours = [program, "--quiet", "convert", str(written(work, model, "ours", TARGET))]
    costs = {
        "modelwright": measure([*ours, "--out", str(work / "out")], work),
        "GPTQModel": measure(
            [sys.executable, "-c", DIRECT, str(plain), str(text), str(work / "direct")], work
        ),
    }
    folders = {"modelwright": work / "out" / "ours" / "gptq", "GPTQModel": work / "direct"}
    for name, lost in judge(plain, folders, work).items():
        print(
            f"{name}: {costs[name]}; perplexity {lost.ppl:.3f} ({lost.ppl_ratio:.4f} of the source's), "
            f"KL {lost.kl_mean:.5f}, top-1 {100 * lost.top1:.1f} %",
            flush=True,
        )
    mine, peer = costs.values()
    print(
        f"ours over GPTQModel's: {mine.wall_s / peer.wall_s:.2f} wall, {mine.cpu_s / peer.cpu_s:.2f} CPU, "
        f"{mine.peak_rss_bytes / peer.peak_rss_bytes:.2f} peak resident",
        flush=True,
    )


def judge(plain: Path, folders: dict[str, Path], work: Path) -> dict[str, Quality]:
    """Against the source, on dialogues that nobody learnt from."""
    tokenizer = tokenizers.Tokenizer.from_file(str(plain / "tokenizer.json"))
    ids = held_out(tokenizer, WINDOW * COUNT)
    chosen = Windows(tuple(tuple(ids[at : at + WINDOW]) for at in range(0, len(ids) - WINDOW + 1, WINDOW)))
    settings = RuntimeSettings(context=WINDOW)
    with Worker(Launch("transformers", plain, settings)) as worker:
        reference = save_reference(worker, chosen, work / "reference.logits")
    found = {}
    for name, folder in folders.items():
        with Worker(Launch("gptqmodel", folder, settings)) as worker:
            found[name] = quality(worker, reference)
    return found


def random_model(work: Path) -> Path:
    """A larger model of random weights, with the embedded one's vocabulary."""
    vocabulary = canonical(work, TINY)
    config = json.loads((vocabulary / "config.json").read_text("utf-8"))
    kept = {key: config[key] for key in ("vocab_size", "bos_token_id", "eos_token_id") if key in config}
    folder = tiny.make(work / "random", tiny.Recipe("qwen2", {**SIZES, **kept}, spread=0.03))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(vocabulary / name, folder / name)
    return folder


def main() -> None:
    """Compare on each model that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=("tiny", "random"), default=("tiny", "random"))
    asked = parser.parse_args()
    for part in asked.parts:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "learn.txt").write_text(to_learn_from(), "utf-8")
            model = TINY if part == "tiny" else random_model(Path(folder))
            print(f"{part}:", flush=True)
            compare(Path(folder), model)


if __name__ == "__main__":
    main()
