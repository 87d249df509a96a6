"""Compare rounding by calibration text with plain rounding, format by format, as their runtimes read them.

python -m tests.bench.rounding [tiny-qwen] [FOLDER] [--formats gguf mlx] [--seeds 3] [--tokens 2048]
    [--transform "rotation: hadamard"]

The same bits and groups both times; each seed chooses other calibration samples. Format gptq has no plain
rounding: GPTQModel takes its place, with the same text. Divergence is the mean Kullback-Leibler divergence
from the source's next tokens, on text that nobody learned from. An interval is Student's, of 95 %, over the
seeds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers

from convert import convert_recipe, plan_recipe, recipe
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

    from convert.recipe import Recipe
    from verify.logprobs import Reference

EMBEDDED = ROOT / "recipes" / "models"
WINDOW = 256
# Student's t for 95 %, by degrees of freedom.
STUDENT = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776}
PACKS = ("searchqa", "lessonpack")
SOURCE = ["hf: {}"]


BOTH = ("rounding: plain", "rounding: gptq")
# Each format's options, both roundings, and the runtime that opens what comes out.
FORMATS = {
    "onnx": ("precision: int4, block_size: 32, mixed: false, head: int8", BOTH, "onnxruntime_genai"),
    "mlx": ("quants: [4bit], group_size: 64", BOTH, "mlx_lm"),
    "compressed-tensors": ("scheme: [w4a16, nvfp4a16, mxfp4], group_size: 64", BOTH, "compressed_tensors"),
    "gguf": ("quants: [Q4_0, Q4_1, Q5_0, Q8_0]", BOTH, "llama_cpp"),
    "gptq": ("bits: 4, group_size: 64", ("engine: gptqmodel", "engine: native"), "gptqmodel"),
}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["tiny-qwen", "tiny-gpt2"])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=[*FORMATS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=48, help="windows of 256 tokens that are learned from")
    parser.add_argument("--tokens", type=int, default=2048, help="that are judged")
    parser.add_argument("--transform", default="", help="of all artifacts, e.g. 'rotation: hadamard'")
    asked = parser.parse_args()
    print("| model | artifact | before, nats | by text, nats | less |\n|---|---|--:|--:|--:|")
    for model in asked.models:
        with tempfile.TemporaryDirectory() as folder:
            for line in compare(model, Path(folder), asked):
                print(line, flush=True)


def compare(model: str, work: Path, asked: argparse.Namespace) -> Iterator[str]:
    """Convert and judge one model in all formats: a line of the table each."""
    source = EMBEDDED / model if (EMBEDDED / model).is_dir() else Path(model)
    (work / "learn.txt").write_text(to_learn_from(), "utf-8")
    made = Made(source, work, asked.samples, asked.transform)
    windows = _windows(made, asked.tokens)
    hf = made.convert("hf", SOURCE)
    with Worker(Launch("transformers", hf / "hf", RuntimeSettings(context=WINDOW))) as worker:
        reference = save_reference(worker, windows, work / "reference.logits")
    formats = []
    for name in asked.formats:
        try:
            plan_recipe(made.asked(f"{name}-plain", made.targets([name], 0)), offline=True)
            formats.append(name)
        except Failure as failure:
            yield f"| {source.name} | {name} | | | {failure.message} |"
    found = [[made.judge(formats, reference, turn, seed) for turn in (0, 1)] for seed in range(asked.seeds)]
    for name in found[0][0]:
        pairs = [(before[name], after[name]) for before, after in found]
        both = " | ".join(_interval(values, ".4f") for values in zip(*pairs, strict=True))
        less = _interval([100 * (1 - after / before) for before, after in pairs], ".0f")
        yield f"| {source.name} | {name} | {both} | {less} % |"


@dataclass(frozen=True)
class Made:
    """A model, and the folder where what becomes of it lies."""

    source: Path
    work: Path
    samples: int
    transform: str
    plain: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def targets(formats: Sequence[str], turn: int) -> list[str]:
        """Write the lines of a recipe."""
        return [f"{name}: {{{FORMATS[name][0]}, {FORMATS[name][1][turn]}}}" for name in formats]

    def judge(self, formats: Sequence[str], reference: Reference, turn: int, seed: int) -> dict[str, float]:
        """Convert, and give the divergence of each artifact; what no text changes, once."""
        learn = [each for each in formats if turn or not seed or FORMATS[each][1] is not BOTH]
        found = {} if turn or not seed else dict(self.plain)
        if not learn:
            return found
        out = self.convert(f"turn-{turn}-{seed}", self.targets(learn, turn), seed)
        for folder in sorted(out.iterdir()):
            (runtime,) = (opens for each, (*_, opens) in FORMATS.items() if folder.name.startswith(each))
            with Worker(Launch(runtime, folder, RuntimeSettings(context=WINDOW))) as worker:
                found[folder.name] = quality(worker, reference).kl_mean
        if not turn and not seed:
            self.plain.update(found)
        return found

    def convert(self, name: str, targets: Sequence[str], seed: int = 0) -> Path:
        """Convert, and return the folder of the artifacts."""
        convert_recipe(self.asked(name, targets, seed), out=self.work / "out", offline=True)
        return self.work / "out" / name

    def asked(self, name: str, targets: Sequence[str], seed: int = 0) -> Recipe:
        """Write a recipe."""
        is_embedded = self.source.parent == EMBEDDED
        text = f"text: {self.work}/learn.txt" if is_embedded else f"packs: [{', '.join(PACKS)}]"
        path = self.work / f"{name}.yaml"
        lines = "\n".join(f"  {target}" for target in targets)
        # What they are compared with is the source.
        changed = f"transform: {{{self.transform}}}\n" if self.transform and targets != SOURCE else ""
        path.write_text(
            f"model: {self.source}\ntargets:\n{lines}\n"
            f"calibration: {{{text}, samples: {self.samples}, length: {WINDOW}, seed: {seed}}}\n{changed}",
            "utf-8",
        )
        return recipe.load(path, option_models())


def _windows(made: Made, count: int) -> Windows:
    """Cut what is judged: dialogues held out from training, or the scenarios', as in a verification."""
    tokenizer = tokenizers.Tokenizer.from_file(str(made.convert("words", SOURCE) / "hf" / "tokenizer.json"))
    if made.source.parent == EMBEDDED:
        ids = held_out(tokenizer, count)
    else:
        ids = tokenizer.encode(join_packs(load_packs(PACKS)), add_special_tokens=False).ids
    return cut(ids, WINDOW, most=count // WINDOW)


def _interval(values: Sequence[float], form: str) -> str:
    mean = f"{statistics.mean(values):{form}}"
    if len(set(values)) < 2:
        return mean
    half = STUDENT[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean} ± {half:{form}}"


if __name__ == "__main__":
    main()
