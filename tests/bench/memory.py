"""Compare the memory that runtimes take on a CPU with what `pick` estimates before anything is built.

python -m tests.bench.memory [--sizes small medium large] [--contexts 512 2048] [--runtimes llama.cpp …]
                             [--vllm PYTHON]

Random models of three sizes are made, converted, and opened by each runtime in a process of its own, which
reads a prompt that fills the context but for 32 tokens and answers with 16. The peak is the kernel's (VmHWM).
vLLM runs where --vllm names the Python of an environment with it; its two processes are added up,
and its cache, which it takes whole when it starts, has room for one text of the context. It does not
compile: programs that do take half a gigabyte more while a model is first started.
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
from convert.pick.memory import cache_bytes, estimate, weigh
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
VLLM = """
import sys
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    folder, context, cache_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    opened = LLM(
        folder, max_model_len=context, kv_cache_memory_bytes=cache_bytes, max_num_seqs=1, enforce_eager=True
    )
    prompt = {"prompt_token_ids": [3 + number % 997 for number in range(context - 32)]}
    opened.generate([prompt], SamplingParams(max_tokens=16, temperature=0, ignore_eos=True))
"""
# What vLLM keeps besides the tokens of a text, in tokens: a block that is begun, and one for padding.
VLLM_SPARE = 256


@dataclass(frozen=True)
class Case:
    """A runtime, what it opens, and how."""

    runtime: str
    target: str
    script: str
    program: str = sys.executable


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
    parser.add_argument("--runtimes", nargs="+")
    parser.add_argument("--vllm", metavar="PYTHON", help="of an environment with vLLM for CPUs")
    asked = parser.parse_args()
    cases = [*CASES, *([Case("vllm-cpu", "hf", VLLM, asked.vllm)] if asked.vllm else [])]
    runtimes = asked.runtimes or [case.runtime for case in cases]
    worst: dict[str, float] = {}
    print("model   artifact       runtime            context  measured  estimated  error")
    with tempfile.TemporaryDirectory() as temporary:
        work = (asked.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for name in asked.sizes:
            folder = make(work, name)
            for case in cases:
                if case.runtime in runtimes:
                    for context in asked.contexts:
                        error = compare(folder, name, case, context)
                        worst[case.runtime] = max(worst.get(case.runtime, 0.0), abs(error))
    for runtime, error in worst.items():
        print(f"{runtime}: within {error:.1%}")


def compare(folder: Path, name: str, case: Case, context: int) -> float:
    """Measure one case, estimate it, and print both."""
    decoder = describe(Config({**tiny.CONFIGS["qwen2"], **SIZES[name], "max_position_embeddings": 8192}))[1]
    options = parse(case.target.removesuffix("-cpu").replace("-", ":", 1))[1]
    weights = find_format(options.format_name).weigh(decoder, options, case.target, "BF16")
    assert weights is not None
    holds = find_runtime(case.runtime).holds
    found = estimate(decoder, weigh(decoder, weights), holds, context=context).total_bytes
    room_bytes = int(cache_bytes(decoder, context + VLLM_SPARE, holds))
    # A file, as vLLM starts its second process from one.
    script = folder.parent / f"{case.runtime}.py"
    script.write_text(case.script, "utf-8")
    command = [case.program, str(script), str(folder / case.target), str(context), str(room_bytes)]
    cost = measure(command, {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})
    error = found / cost.peak_rss_bytes - 1
    print(
        f"{name:7} {case.target:14} {case.runtime:18} {context:7} {cost.peak_rss_bytes / 1e6:6.0f} MB "
        f"{found / 1e6:7.0f} MB {error:+7.1%}",
        flush=True,
    )
    return error


if __name__ == "__main__":
    main()
