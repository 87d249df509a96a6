"""Compare the memory that runtimes take on a CPU with what `pick` estimates before anything is built.

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

from convert.formats import find_format
from convert.model.config import Config
from convert.model.families import describe
from convert.pick.candidate import parse
from convert.pick.memory import estimate, weigh
from convert.pick.runtime import find_runtime
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
LLAMA = """
import sys, llama_cpp
from verify.runtimes import Request, RuntimeSettings, llama_cpp as runtime
default = llama_cpp.llama_model_default_params
def unmapped():
    # Weights that kernels rearrange would be counted twice, though the mapped ones can be dropped.
    params = default()
    params.load_mode = 0  # without mmap
    return params
llama_cpp.llama_model_default_params = unmapped
context = int(sys.argv[2])
opened = runtime.open_runtime(sys.argv[1], RuntimeSettings(context=context, threads=2))
prompt = tuple(3 + number % 997 for number in range(context - 32))
list(opened.generate(Request(ids=prompt, max_tokens=16, ignores_end=True)))
"""
GENAI = """
import sys
import numpy as np
import onnxruntime_genai as og
context = int(sys.argv[2])
model = og.Model(sys.argv[1])
params = og.GeneratorParams(model)
params.set_search_options(max_length=context, do_sample=False)
generator = og.Generator(model, params)
prompt = np.array([3 + number % 997 for number in range(context - 32)], np.int32)
for start in range(0, len(prompt), 512):
    generator.append_tokens(prompt[start : start + 512])
for _ in range(16):
    generator.generate_next_token()
"""
TRANSFORMERS = """
import sys, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(2)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto")
prompt = torch.tensor([[3 + number % 997 for number in range(int(sys.argv[2]) - 32)]])
model.generate(prompt, max_new_tokens=16, min_new_tokens=16, do_sample=False)
"""


@dataclass(frozen=True)
class Case:
    """A runtime, what it opens, and how."""

    runtime: str
    target: str
    script: str


CASES = (
    Case("llama.cpp", "gguf-Q4_K_M", LLAMA),
    Case("llama.cpp", "gguf-Q8_0", LLAMA),
    Case("onnxruntime-genai", "onnx-int4-cpu", GENAI),
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
    """Measure, compare, and print the largest error of each runtime."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="where models go; a temporary folder by default")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=[*SIZES])
    parser.add_argument("--contexts", nargs="+", type=int, default=[512, 2048])
    parser.add_argument("--runtimes", nargs="+", default=sorted({case.runtime for case in CASES}))
    asked = parser.parse_args()
    worst: dict[str, float] = {}
    print("model   artifact       runtime            context  measured  estimated  error")
    with tempfile.TemporaryDirectory() as temporary:
        work = (asked.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for name in asked.sizes:
            folder = make(work, name)
            for case in CASES:
                if case.runtime in asked.runtimes:
                    for context in asked.contexts:
                        error = compare(folder, name, case, context)
                        worst[case.runtime] = max(worst.get(case.runtime, 0.0), abs(error))
    for runtime, error in worst.items():
        print(f"{runtime}: within {error:.1%}")


def compare(folder: Path, name: str, case: Case, context: int) -> float:
    """Measure one case, estimate it, and print both."""
    cost = measure([sys.executable, "-c", case.script, str(folder / case.target), str(context)])
    decoder = describe(Config({**tiny.CONFIGS["qwen2"], **SIZES[name], "max_position_embeddings": 8192}))[1]
    options = parse(case.target.removesuffix("-cpu").replace("-", ":", 1))[1]
    weights = find_format(options.format_name).weigh(decoder, options, case.target, "BF16")
    assert weights is not None
    holds = find_runtime(case.runtime).holds
    found = estimate(decoder, weigh(decoder, weights), holds, context=context).total_bytes
    error = found / cost.peak_rss_bytes - 1
    print(
        f"{name:7} {case.target:14} {case.runtime:18} {context:7} {cost.peak_rss_bytes / 1e6:6.0f} MB "
        f"{found / 1e6:7.0f} MB {error:+7.1%}",
        flush=True,
    )
    return error


if __name__ == "__main__":
    main()
