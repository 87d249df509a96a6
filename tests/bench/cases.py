"""The comparisons: on which checkpoint, by which routes, and what must be the same in what they leave."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convert.cli.text import count
from tests.bench import checkpoint, gptq, peers, quantized
from tests.bench.checkpoint import Shape
from tests.bench.harness import Route
from tests.bench.same import same_files, same_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

OURS, FLOOR = "modelwright", "floor"
LLAMA, BUILDER, GPTQMODEL = "llama.cpp", "onnxruntime-genai", "GPTQModel"
LLMCOMPRESSOR, MLX_LM, COPY = "llmcompressor", "mlx-lm", "copy of the source"
HIDDEN = Shape().hidden
THREE = ("Q4_K_M", "Q5_K_M", "Q8_0")
FP8, MLX4 = "compressed-tensors: {scheme: [fp8]}", "mlx: {quants: [4bit]}"
INT4 = "onnx: {precision: int4, block_size: 32, accuracy_level: 4}"
SAME = ("int4_block_size=32", "int4_accuracy_level=4", "int4_is_symmetric=true")


@dataclass(frozen=True)
class Place:
    """Where a run keeps its checkpoints and what is made of them, and how deep its models are."""

    work: Path
    layers: int = 24
    expert_layers: int = 4
    hidden: int = HIDDEN

    def dense(self) -> Path:
        """Make a checkpoint of Qwen-1.8B's shape."""
        folder = self.work / f"model-{self.layers}-{self.hidden}"
        checkpoint.make_checkpoint(folder, self.shape)
        return folder

    def experts(self) -> Path:
        """Make a checkpoint of Qwen3-30B-A3B's layers."""
        folder = self.work / f"experts-{self.expert_layers}-{self.hidden}"
        changes = {"hidden_size": self.hidden, "moe_intermediate_size": self.hidden * 3 // 8}
        checkpoint.make_experts(folder, self.expert_layers, changes)
        return folder

    @property
    def shape(self) -> Shape:
        """Scale Qwen-1.8B's sizes, where a smaller model is asked for to try the bench itself."""
        mlp, heads = self.hidden * 43 // 16, self.hidden // 128
        return Shape(layers=self.layers, hidden=self.hidden, heads=heads, mlp=mlp)

    @property
    def depth(self) -> str:
        return f"{count(self.layers, 'layer')} of Qwen-1.8B{self.narrowed}"

    @property
    def narrowed(self) -> str:
        return "" if self.hidden == HIDDEN else f", narrowed to {self.hidden}"

    def out(self, name: str) -> Path:
        return self.work / "out" / name

    def ours(self, model: Path, *targets: str, name: str = OURS, more: str = "") -> Route:
        """Convert with modelwright, as a person would, who has converted before."""
        recipe = self.work / "recipes" / name / "bench.yaml"  # whose name is in the names of files
        recipe.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"  {target}\n" for target in targets)
        recipe.write_text(f"model: {model}\ntargets:\n{lines}{more}", "utf-8")
        program = str(Path(sys.executable).parent / "modelwright")
        out = self.out(name)
        command = (program, "--quiet", "convert", str(recipe), "--out", str(out))
        # An installed package has its code compiled.
        environment = {"XDG_CACHE_HOME": str(self.work / "cache"), "PYTHONDONTWRITEBYTECODE": ""}
        return Route((command,), (out,), environment)

    def llama(self, model: Path, quants: Sequence[str]) -> Route:
        """Convert with llama.cpp: a whole file in 16 bits, then a pass over it for each type."""
        quantize = peers.tool("llama-quantize")
        if quantize is None:
            raise LookupError("llama-quantize: name its folder with LLAMA_BIN, or build it with --build")
        middle = self.out("llama-bf16.gguf")
        files = [self.out(f"llama-{quant}.gguf") for quant in quants]
        convert = (sys.executable, str(peers.script()), str(model), "--outtype", "bf16")
        return Route(
            (
                (*convert, "--outfile", str(middle)),
                *(
                    (str(quantize), str(middle), str(file), quant)
                    for quant, file in zip(quants, files, strict=True)
                ),
            ),
            (middle, *files),
            {"HF_HUB_OFFLINE": "1"},
        )

    def builder(self, model: Path) -> Route:
        """Convert with the builder that onnxruntime-genai brings."""
        out, cache = self.out("builder"), self.work / "builder-cache"
        command = (sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", "int4", "-e", "cpu")
        places = ("-i", str(model), "-o", str(out), "-c", str(cache))
        return Route(((*command, *places, "--extra_options", *SAME),), (out,), {"HF_HUB_OFFLINE": "1"})


@dataclass(frozen=True)
class Case:
    """Routes to the same thing, and the checks of what they left."""

    title: str
    model: Path
    routes: Mapping[str, Route]
    check: Callable[[], Mapping[str, float]] = dict

    @property
    def sources(self) -> list[Path]:
        return sorted(self.model.glob("*.safetensors"))

    def floor(self) -> Route:
        """Read the source, and write what our route has left, without encoding anything."""
        (ours,) = self.routes[OURS].leaves
        sizes = {path: path.stat().st_size for path in _files(ours)}
        folder = ours.with_name(FLOOR)
        folder.mkdir(exist_ok=True)
        writes = [f"{folder / str(number)}={size}" for number, size in enumerate(sizes.values())]
        command = (sys.executable, "-m", "tests.bench.floor", "--read", *map(str, self.sources))
        leaves = tuple(folder / str(number) for number in range(len(writes)))
        return Route(((*command, "--write", *writes),), leaves)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _gguf(place: Place, model: Path, title: str, quants: Sequence[str]) -> Case:
    target = f"gguf: {{quants: [{', '.join(quants)}]}}"
    theirs = place.llama(model, quants)
    made = dict(zip(quants, theirs.leaves[1:], strict=True))
    routes = {OURS: place.ours(model, target), LLAMA: theirs}
    return Case(title, model, routes, lambda: same_tensors(place.out(OURS), made))


def one(place: Place) -> Case:
    return _gguf(place, place.dense(), f"Q4_K_M, {place.depth}", ["Q4_K_M"])


def three(place: Place) -> Case:
    return _gguf(place, place.dense(), f"Q4_K_M + Q5_K_M + Q8_0, {place.depth}", THREE)


def iq4(place: Place) -> Case:
    return _gguf(place, place.dense(), f"IQ4_XS, {place.depth}", ["IQ4_XS"])


def experts(place: Place) -> Case:
    title = f"Q4_K_M, {count(place.expert_layers, 'layer')} of Qwen3-30B-A3B{place.narrowed}"
    return _gguf(place, place.experts(), title, ["Q4_K_M"])


def onnx(place: Place) -> Case:
    model = place.dense()
    routes = {OURS: place.ours(model, INT4), BUILDER: place.builder(model)}
    return Case(f"ONNX int4, {place.depth}", model, routes)


def together(place: Place) -> Case:
    """One run for four formats, against a run for each."""
    model = place.dense()
    targets = {
        "Q4_K_M": "gguf: {quants: [Q4_K_M]}",
        "ONNX int4": INT4,
        "FP8": FP8,
        "MLX 4-bit": MLX4,
    }
    alone = {f"{name} alone": place.ours(model, each, name=f"{name} alone") for name, each in targets.items()}
    routes = {OURS: place.ours(model, *targets.values()), **alone}

    def check() -> dict[str, int]:
        return same_files(place.out(OURS), *map(place.out, alone))

    return Case(f"{' + '.join(targets)} in one run, {place.depth}", model, routes, check)


def to_fp8(place: Place) -> Case:
    """FP8, against a copy of the source, and against llmcompressor where LLMCOMPRESSOR names its folder."""
    model, out, copy = place.dense(), place.out("llmcompressor"), place.out("copy")
    files = sorted(model.glob("*.safetensors"))
    size_bytes = sum(path.stat().st_size for path in files)
    copying = (sys.executable, "-m", "tests.bench.floor", "--read", *map(str, files))
    routes = {
        OURS: place.ours(model, FP8),
        COPY: Route(((*copying, "--write", f"{copy}={size_bytes}"),), (copy,)),
    }
    if "LLMCOMPRESSOR" in os.environ:
        theirs = (sys.executable, "-m", "tests.bench.llmcompressor", str(model), str(out))
        routes[LLMCOMPRESSOR] = Route((theirs,), (out,))
    return Case(f"FP8, {place.depth}", model, routes)


def mlx(place: Place) -> Case:
    model, out = place.dense(), place.out("mlx")
    theirs = (sys.executable, "-m", "mlx_lm", "convert", "--hf-path", str(model), "--mlx-path", str(out))
    routes = {
        OURS: place.ours(model, MLX4),
        MLX_LM: Route(((*theirs, "--quantize", "--q-bits", "4"),), (out,), {"HF_HUB_OFFLINE": "1"}),
    }
    return Case(f"MLX 4-bit, {place.depth}", model, routes)


def from_fp8(place: Place) -> Case:
    """A source of 8 bits, against the same in 16."""
    plain, model = place.dense(), place.work / f"fp8-{place.layers}-{place.hidden}"
    if not (model / "model.safetensors").is_file():
        quantized.make_quantized(model, "fp8", checkpoint.shapes(place.shape), plain)
    routes = {
        OURS: place.ours(model, "gguf: {quants: [Q8_0]}"),
        "from bf16": place.ours(plain, "gguf: {quants: [Q8_0]}", name="from bf16"),
    }
    return Case(f"Q8_0 of an FP8 source, {place.depth}", model, routes)


def by_gptq(place: Place) -> Case:
    """GPTQ of a small model, with the same windows by both routes, judged on what neither saw."""
    folder = place.work / "gptq"
    model, source, windows = gptq.prepare(folder)
    out = place.out("gptqmodel")
    ours = place.ours(model, gptq.TARGET, more=gptq.CALIBRATION.format(folder=folder))
    direct = Route(
        ((sys.executable, "-c", gptq.DIRECT, str(source), str(windows), str(out)),),
        (out,),
        {"HF_HUB_OFFLINE": "1", "GPTQMODEL_CPU_WORKERS": "2"},
    )

    def check() -> dict[str, float]:
        (mine,) = place.out(OURS).rglob("gptq")
        return gptq.judged(source, {OURS: mine, GPTQMODEL: out}, folder)

    return Case("GPTQ, four layers of 0.5 B", model, {OURS: ours, GPTQMODEL: direct}, check)


def deep_gptq(place: Place) -> Case:
    """GPTQ of a whole model, by the native engine alone: its memory is what is looked at."""
    folder = place.work / "gptq"
    gptq.prepare(folder)
    model = place.dense()
    ours = place.ours(model, gptq.TARGET, more=gptq.CALIBRATION.format(folder=folder))
    return Case(f"GPTQ, {place.depth}", model, {OURS: ours})


CASES: dict[str, Callable[[Place], Case]] = {
    "one": one,
    "three": three,
    "experts": experts,
    "together": together,
    "iq4": iq4,
    "onnx": onnx,
    "fp8": to_fp8,
    "mlx": mlx,
    "from-fp8": from_fp8,
    "gptq": by_gptq,
    "gptq-deep": deep_gptq,
}
