"""Compare rounding by calibration text with plain rounding, format by format, as their runtimes read them.

python -m tests.bench.rounding [tiny-qwen] [FOLDER] [--formats gguf-Q4_0 mlx-4bit] [--seeds 3] [--tokens 2048]

The same bits and groups both times; each seed chooses other calibration samples. Divergence is the mean
Kullback-Leibler divergence from the source's next tokens, on text that nobody learned from. An interval is
Student's, of 95 %, over the seeds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers

from convert import convert_recipe, recipe
from convert.errors import Failure
from convert.formats import option_models
from tests.bench.checkpoint import ROOT
from tests.gptq.text import held_out, to_learn_from
from verify.logprobs import Windows, cut, save_reference
from verify.quality import quality
from verify.runtimes import RuntimeSettings
from verify.scenarios.loading import load as load_packs
from verify.text import join_packs
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from verify.logprobs import Reference

EMBEDDED = ROOT / "recipes" / "models"
WINDOW = 256
# Student's t for 95 %, by degrees of freedom.
STUDENT = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776}
PACKS = ("searchqa", "lessonpack")


@dataclass(frozen=True)
class Case:
    """A format's options but for the rounding, and the runtime that opens what comes out."""

    format: str
    options: str
    runtime: str


CASES = {
    "onnx-int4-cpu": Case("onnx", "precision: int4, block_size: 32, head: int8", "onnxruntime_genai"),
    "mlx-4bit": Case("mlx", "quants: [4bit], group_size: 64", "mlx_lm"),
    "compressed-tensors-w4a16": Case(
        "compressed-tensors", "scheme: w4a16, group_size: 64", "compressed_tensors"
    ),
    "compressed-tensors-nvfp4a16": Case("compressed-tensors", "scheme: nvfp4a16", "compressed_tensors"),
    "compressed-tensors-mxfp4": Case("compressed-tensors", "scheme: mxfp4", "compressed_tensors"),
    "gguf-Q4_0": Case("gguf", "quants: [Q4_0]", "llama_cpp"),
    "gguf-Q4_1": Case("gguf", "quants: [Q4_1]", "llama_cpp"),
    "gguf-Q5_0": Case("gguf", "quants: [Q5_0]", "llama_cpp"),
    "gguf-Q8_0": Case("gguf", "quants: [Q8_0]", "llama_cpp"),
}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["tiny-qwen", "tiny-gpt2"])
    parser.add_argument("--formats", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=48, help="windows of 256 tokens that are learned from")
    parser.add_argument("--tokens", type=int, default=2048, help="that are judged")
    asked = parser.parse_args()
    print("| model | artifact | plain, nats | by text, nats | less |\n|---|---|--:|--:|--:|")
    for model in asked.models:
        with tempfile.TemporaryDirectory() as folder:
            for line in compare(model, Path(folder), asked):
                print(line, flush=True)


def compare(model: str, work: Path, asked: argparse.Namespace) -> Iterator[str]:
    """Convert and judge one model in all formats: a line of the table each."""
    source = EMBEDDED / model if (EMBEDDED / model).is_dir() else Path(model)
    (work / "learn.txt").write_text(to_learn_from(), "utf-8")
    made = Made(source, work, asked.samples)
    windows = _windows(made, asked.tokens)
    hf = made.convert("hf", "hf: {}")
    with Worker(Launch("transformers", hf / "hf", RuntimeSettings(context=WINDOW))) as worker:
        reference = save_reference(worker, windows, work / "reference.logits")
    for name in asked.formats:
        case = CASES[name]
        try:
            plain = made.judge(name, case, reference, "")
        except Failure as failure:
            yield f"| {source.name} | {name} | | | {failure.message} |"
            continue
        by_text = [made.judge(name, case, reference, "rounding: gptq", seed) for seed in range(asked.seeds)]
        less = [100 * (1 - each / plain) for each in by_text]
        yield (
            f"| {source.name} | {name} | {plain:.4f} | {statistics.mean(by_text):.4f} | {_interval(less)} % |"
        )


@dataclass(frozen=True)
class Made:
    """A model, and the folder where what becomes of it lies."""

    source: Path
    work: Path
    samples: int

    def judge(self, name: str, case: Case, reference: Reference, rounding: str, seed: int = 0) -> float:
        """Convert, and give the divergence."""
        target = f"{case.format}: {{{', '.join(filter(None, (case.options, rounding)))}}}"
        out = self.convert(f"{name}-{rounding[-4:]}-{seed}", target, seed) / name
        with Worker(Launch(case.runtime, out, RuntimeSettings(context=WINDOW))) as worker:
            return quality(worker, reference).kl_mean

    def convert(self, name: str, target: str, seed: int = 0) -> Path:
        """Convert, and return the folder of the artifacts."""
        is_embedded = self.source.parent == EMBEDDED
        text = f"text: {self.work}/learn.txt" if is_embedded else f"packs: [{', '.join(PACKS)}]"
        path = self.work / f"{name}.yaml"
        path.write_text(
            f"model: {self.source}\ntargets:\n  {target}\n"
            f"calibration: {{{text}, samples: {self.samples}, length: {WINDOW}, seed: {seed}}}\n",
            "utf-8",
        )
        convert_recipe(recipe.load(path, option_models()), out=self.work / "out", offline=True)
        return self.work / "out" / name


def _windows(made: Made, count: int) -> Windows:
    """Cut what is judged: dialogues held out from training, or the scenarios', as in a verification."""
    tokenizer = tokenizers.Tokenizer.from_file(str(made.convert("words", "hf: {}") / "hf" / "tokenizer.json"))
    if made.source.parent == EMBEDDED:
        ids = held_out(tokenizer, count)
    else:
        ids = tokenizer.encode(join_packs(load_packs(PACKS)), add_special_tokens=False).ids
    return cut(ids, WINDOW, most=count // WINDOW)


def _interval(values: Sequence[float]) -> str:
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.0f}"
    half = STUDENT[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.0f} ± {half:.0f}"


if __name__ == "__main__":
    main()
