"""What runtimes take of memory on a CPU, beside what `pick` estimates before anything is built.

python -m tests.bench.memory [--sizes small medium large] [--contexts 512 2048] [--runtimes llama.cpp …]

Random models of three sizes are made, converted, and opened by each runtime in a process of its own, which
reads a prompt that fills the context but for 32 tokens and answers with 16. The peak is the kernel's (VmHWM).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from convert.tokenizer import load
from tests import tiny
from tests.bench.checkpoint import ROOT
from tests.bench.harness import measure

SPARE, ANSWER = 32, 16
VOCABULARY = ROOT / "recipes" / "models" / "tiny-qwen"
SIZES = {
    "small": {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 32_000,
    },
    "medium": {
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 32_000,
    },
    "large": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 10,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": 151_936,
    },
}
OURS = """
import importlib, sys
from verify.runtimes import Request, RuntimeSettings
module = importlib.import_module("verify.runtimes." + sys.argv[1])
module.preload()
if sys.argv[1] == "llama_cpp":
    import llama_cpp
    default = llama_cpp.llama_model_default_params
    def unmapped():
        params = default()
        params.use_mmap = False
        return params
    llama_cpp.llama_model_default_params = unmapped
context = int(sys.argv[3])
opened = module.open_runtime(sys.argv[2], RuntimeSettings(context=context, threads=2))
prompt = tuple(3 + number % 997 for number in range(context - 32))
list(opened.generate(Request(ids=prompt, max_tokens=16, ignores_end=True)))
"""
TRANSFORMERS = """
import sys, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(2)
model = AutoModelForCausalLM.from_pretrained(sys.argv[2], dtype="auto")
prompt = torch.tensor([[3 + number % 997 for number in range(int(sys.argv[3]) - 32)]])
model.generate(prompt, max_new_tokens=16, min_new_tokens=16, do_sample=False)
"""


@dataclass(frozen=True)
class Case:
    """A runtime, what it opens, and how."""

    runtime: str
    target: str
    script: str
    module: str = ""


CASES = (
    Case("llama.cpp", "gguf-Q4_K_M", OURS, "llama_cpp"),
    Case("llama.cpp", "gguf-Q8_0", OURS, "llama_cpp"),
    Case("onnxruntime-genai", "onnx-int4-cpu", OURS, "onnxruntime_genai"),
    Case("transformers", "hf", TRANSFORMERS),
)
TARGETS = "{gguf: {quants: [Q4_K_M, Q8_0]}, onnx: {precision: int4}, hf: {}}"


def make(work: Path, name: str) -> Path:
    """Make a random model and all its artifacts, unless they are there."""
    folder, out = work / name, work / "artifacts"
    if (out / name / "hf" / "manifest.json").is_file():
        return out / name
    shutil.rmtree(folder, ignore_errors=True)
    sizes = SIZES[name]
    tiny.make(folder, tiny.Recipe("qwen2", {**sizes, "max_position_embeddings": 8192}, spread=0.02))
    tokenizer = load(VOCABULARY, "qwen", {"model_type": "qwen"}, sizes["vocab_size"])
    (folder / "tokenizer.json").write_bytes(tokenizer.json)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer.config, ensure_ascii=False), "utf-8")
    recipe = work / f"{name}.yaml"
    recipe.write_text(f"model: {folder}\ntargets: {TARGETS}\n", "utf-8")
    program = str(Path(sys.executable).parent / "modelwright")
    subprocess.run([program, "--quiet", "convert", str(recipe), "--out", str(out)], check=True)
    return out / name


def main() -> None:
    """Measure, and print a line for each case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="where models go; a temporary folder by default")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=[*SIZES])
    parser.add_argument("--contexts", nargs="+", type=int, default=[512, 2048])
    parser.add_argument("--runtimes", nargs="+", default=sorted({case.runtime for case in CASES}))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (asked.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for name in asked.sizes:
            folder = make(work, name)
            for case in CASES:
                if case.runtime in asked.runtimes:
                    for context in asked.contexts:
                        compare(folder, name, case, context)


def compare(folder: Path, name: str, case: Case, context: int) -> None:
    """Measure one case, and print it."""
    place = str(folder / case.target)
    cost = measure([sys.executable, "-c", case.script, case.module, place, str(context)])
    print(
        f"{name} {case.target} {case.runtime} {context} {cost.peak_rss_bytes} {cost.peak_anon_bytes}",
        flush=True,
    )


if __name__ == "__main__":
    main()
