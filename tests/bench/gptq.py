"""GPTQ of a small model of random weights, by our route and by GPTQModel called directly."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import tokenizers

from convert import convert_recipe, recipe
from convert.calibration import windows
from convert.formats import option_models
from convert.model.config import read_config
from convert.tokenizer import load
from tests import tiny
from tests.bench.checkpoint import ROOT
from tests.gptq.text import held_out, to_learn_from
from verify.logprobs import Windows, save_reference
from verify.quality import quality
from verify.runtimes import RuntimeSettings
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TINY = ROOT / "recipes" / "models" / "tiny-qwen"
# Four of the 24 layers of Qwen2.5-0.5B.
SIZES = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 4,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}
TARGET = "gptq: {bits: 4, group_size: 64, damp: 0.01, engine: native}"
CALIBRATION = "calibration: {{text: {folder}/learn.txt, samples: 64, length: 128}}\n"
WINDOW, COUNT = 256, 16
DIRECT = """
import json, os, sys
os.chdir(os.path.dirname(sys.argv[3]))  # it leaves logs where it runs
from gptqmodel import GPTQModel
from gptqmodel.quantization.config import GPTQConfig
source, windows, out = sys.argv[1:]
text = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in json.load(open(windows))]
model = GPTQModel.load(source, GPTQConfig(bits=4, group_size=64, damp_percent=0.01))
model.quantize(text, batch_size=1)
model.save(out)
"""


def prepare(work: Path) -> tuple[Path, Path, Path]:
    """Make the model, the same under the names that GPTQModel knows, and the windows that both learn from."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "learn.txt").write_text(to_learn_from(), "utf-8")
    model = work / "random"
    if not (work / "windows.json").exists():
        _make(work, model)
        (work / "windows.json").write_text(json.dumps(_windows(work, model)), "utf-8")
    return model, _plain(work, model), work / "windows.json"


def judged(source: Path, folders: Mapping[str, Path], work: Path) -> dict[str, float]:
    """Compare with the source, on dialogues that nobody learnt from."""
    tokenizer = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
    ids = held_out(tokenizer, WINDOW * COUNT)
    chosen = Windows(tuple(tuple(ids[at : at + WINDOW]) for at in range(0, len(ids) - WINDOW + 1, WINDOW)))
    settings = RuntimeSettings(context=WINDOW)
    with Worker(Launch("transformers", source, settings)) as worker:
        reference = save_reference(worker, chosen, work / "reference.logits")
    found: dict[str, float] = {}
    for name, folder in folders.items():
        with Worker(Launch("gptqmodel", folder, settings)) as worker:
            lost = quality(worker, reference)
        found[f"perplexity ratio of {name}"] = round(lost.ppl_ratio, 4)
        found[f"KL of {name}"] = round(lost.kl_mean, 5)
    return found


def _written(work: Path, model: Path, name: str, target: str) -> Path:
    path = work / f"{name}.yaml"
    more = CALIBRATION.format(folder=work)
    path.write_text(f"model: {model}\ntargets:\n  {target}\n{more}", "utf-8")
    return path


def _plain(work: Path, model: Path) -> Path:
    """Convert to plain safetensors under the names that GPTQModel knows."""
    asked = recipe.load(_written(work, model, f"plain-{model.name}", "hf: {}"), option_models())
    convert_recipe(asked, out=work / "plain", offline=True)
    return work / "plain" / f"plain-{model.name}" / "hf"


def _windows(work: Path, model: Path) -> list[list[int]]:
    """Cut the windows that our route takes."""
    asked = recipe.load(_written(work, model, "cut", TARGET), option_models())
    assert asked.calibration is not None
    config = read_config(model)
    tokenizer = load(model, config.text("model_type"), config.values, config.size("vocab_size"))
    return [window.tolist() for window in windows(asked.calibration, work, tokenizer, 2048).tokens]


def _make(work: Path, model: Path) -> None:
    """Make a model of random weights, with the embedded one's vocabulary."""
    vocabulary = _plain(work, TINY)
    config = json.loads((vocabulary / "config.json").read_text("utf-8"))
    kept = {key: config[key] for key in ("vocab_size", "bos_token_id", "eos_token_id") if key in config}
    tiny.make(model, tiny.Recipe("qwen2", {**SIZES, **kept}, spread=0.03))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(vocabulary / name, model / name)
