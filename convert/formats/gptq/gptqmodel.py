"""What GPTQ and AWQ share: the checkpoint that GPTQModel is fed, and its work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from convert import machine
from convert.calibration import windows
from convert.deviation import Deviation
from convert.errors import UsageFailure
from convert.extras import installed, require
from convert.formats.base import Finish, Format, Made, Planned, Scratch, Weight, Workplace
from convert.formats.gptq import estimate, manifest
from convert.formats.gptq.ability import LOST, RENDERS, known_families, limits
from convert.formats.gptq.check import require_fit, require_windows
from convert.formats.hf import format as hf
from convert.formats.hf.companions import canonical_config, companion_files, is_relabeled, to_json
from convert.formats.hf.shards import INDEX_NAME, shard_layouts
from convert.formats.hf.tensors import is_canonical, stored_tensors
from convert.quantizer import Job, Matrix, quantize, refusal
from convert.recipe.reader import refuse_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from convert.calibration import Windows
    from convert.formats.awq.options import AwqOptions
    from convert.formats.gptq.options import GptqOptions
    from convert.model.decoder import Decoder
    from convert.model.feature import Feature
    from convert.model.source import Model, Weights
    from convert.progress import Progress
    from convert.quantizer import Method
    from convert.recipe import Recipe
    from convert.writer.speed import Speeds

    Options = GptqOptions | AwqOptions

TOOLS = ("GPTQModel", "torch", "transformers", "tokenizers")
# One file of the scratch checkpoint: GPTQModel maps it, so the size says nothing.
SCRATCH_SHARD_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Feed:
    """The text to learn from, the tensors, and where the source has them already as they are wanted."""

    checkpoint: hf.StoredTensors
    windows: Windows
    seed: int
    matrices: tuple[Matrix, ...]
    is_read: bool = False  # whether the headers of the weights were
    files: Mapping[str, Path] | None = None  # tensor -> the source's own file; None: laid out for it


class GptqModelFormat(Format["Options", Feed]):
    """A format that GPTQModel makes, by one of its methods."""

    RENDERS = RENDERS

    def renders(self, decoder: Decoder, options: Options | None = None) -> frozenset[Feature] | None:
        """Express what was tried, of the families that the installed GPTQModel has."""
        known = known_families()
        if known is not None and decoder.family not in known:
            return None
        return self.RENDERS - LOST[self.method]

    def limits(self, decoder: Decoder) -> tuple[str, ...]:
        """Say what GPTQModel fails at, of features that it has."""
        return limits(self.method, decoder)

    def __init__(self, method: Method, revision: int) -> None:
        self.name = self.method = method
        self.REVISION = revision

    def tools(self, options: Options, target: str) -> dict[str, str]:
        return {name: installed(name) for name in TOOLS}

    def prepare(self, model: Model, options: Options, recipe: Recipe) -> Feed:
        """Refuse what cannot be, and cut the text: hours of work come later."""
        require("gptqmodel")
        checkpoint = hf.list_tensors(model)
        quantized = estimate.matrices(checkpoint.stored)
        require_fit(self.method, options.bits, options.group_size, quantized, recipe)
        if why := refusal(self.method, quantized):
            refuse_at(recipe, ("targets", self.method), why, "take gptq for this model")
        if options.device == "cuda" and not machine.has_gpu():
            refuse_at(
                recipe,
                ("targets", self.method, "device"),
                "cuda, and torch will find no GPU here",
                "write device: cpu or auto, or install a torch with CUDA on a machine with a GPU",
            )
        if recipe.calibration is None:
            raise UsageFailure(f"{self.method}: no calibration text", "add calibration: {packs: [searchqa]}")
        if model.texts is not None and model.texts.is_endless:
            # As many tokens as are asked for; cutting those that no machine could hold would take an hour.
            count = recipe.calibration.samples * min(recipe.calibration.length, model.decoder.context_length)
            needed_bytes = estimate.memory_bytes(self.method, model.decoder, checkpoint.stored, count)
            machine.require_memory(self.method, needed_bytes)
        chosen = windows(
            recipe.calibration,
            recipe.path.parent,
            model.tokenizer,
            model.decoder.context_length,
            source=model.texts,
        )
        require_windows(model.decoder, max(map(len, chosen.tokens)), recipe)
        return Feed(checkpoint, chosen, recipe.calibration.seed, quantized)

    def learn(
        self,
        prepared: Feed,
        model: Model,
        options: Options,
        recipe: Recipe,
        *,
        weights: Weights,
        progress: Progress,
    ) -> Feed:
        """Read in the headers what the tensors are stored as, and whether they can be read as they lie."""
        checkpoint = hf.read_headers(prepared.checkpoint, model, weights)
        stored = checkpoint.stored
        files = None
        if is_canonical(stored, weights) and not _is_narrowed(self.method, checkpoint):
            files = {name: info.file for name, info in weights.checkpoint.tensors.items()}
        return replace(prepared, checkpoint=checkpoint, is_read=True, files=files)

    def lay_out(self, model: Model, options: Options, target: str, prepared: Feed) -> Planned:
        """Plan the checkpoint to feed, the small files, and the work."""
        checkpoint, stored = prepared.checkpoint, prepared.checkpoint.stored
        is_narrowed = _is_narrowed(self.method, checkpoint)
        types = hf.stored_types(checkpoint, "fp16" if is_narrowed else "source")
        config = canonical_config(model, hf.torch_name(stored, types))
        files = companion_files(model, config)
        # GPTQModel's own has the quantization in it.
        del files["config.json"]
        device = "cuda" if options.device != "cpu" and machine.has_gpu() else "cpu"
        tokens = prepared.windows.token_count
        result_bytes = estimate.result_bytes(stored, types, bits=options.bits, group_size=options.group_size)

        def make(place: Workplace) -> Made:
            # AWQ does not say where it rounds: without leave to do so it fails.
            has_experts = any(layer.experts for layer in model.decoder.kinds)
            may_round = has_experts and self.method == "gptq"
            return _make(self.method, options, prepared, types, place, may_round=may_round)

        def seconds(threads: int, speeds: Speeds) -> float:
            known = None if device == "cuda" else speeds
            return estimate.seconds(self.method, model.decoder, stored, tokens, threads=threads, speeds=known)

        return Planned(
            target,
            (),
            files=files,
            deviations=_narrowed(checkpoint) if is_narrowed else _retyped(prepared, types),
            keeps_config=not is_relabeled(model),
            finish=Finish(
                _scratch(model, prepared, types, config),
                make,
                path="model.safetensors",
                size_bytes=result_bytes,
                # Layers that are done wait on disk until all are written out together.
                spare_bytes=2 * result_bytes,
                memory_bytes=estimate.memory_bytes(self.method, model.decoder, stored, tokens),
                seconds=seconds,
                device=device,
            ),
            notes={"calibration": dict(prepared.windows.record())},
        )

    def weigh(self, decoder: Decoder, options: Options, target: str, native: str) -> Iterable[Weight] | None:
        """Count every packed matrix, and the rest in 16 bits or as the source has it."""
        stored = stored_tensors(decoder)
        kept = "F16" if self.method == "awq" and native == "F32" else native
        sizes = estimate.tensor_bytes(
            stored, dict.fromkeys((each.name for each in stored), kept),
            bits=options.bits, group_size=options.group_size,
        )  # fmt: skip
        return [Weight(each.pieces[0].ref, size_bytes) for each, size_bytes in sizes]


def _narrowed(checkpoint: hf.StoredTensors) -> tuple[Deviation, ...]:
    wanted = " and ".join(sorted(set(checkpoint.source_types.values()) - {"F16"}))
    return (Deviation("weights", wanted, "F16", "GPTQModel's AWQ computes in 16 bits"),)


def _retyped(prepared: Feed, types: Mapping[str, str]) -> tuple[Deviation, ...]:
    """Name what is fed as another type than the source's and keeps it: what is quantized has none."""
    quantized = {matrix.name for matrix in prepared.matrices}
    return tuple(
        each
        for each in hf.retyped(prepared.checkpoint, types)
        if each.subject.removesuffix(".weight") not in quantized
    )


def _is_narrowed(method: Method, checkpoint: hf.StoredTensors) -> bool:
    """Tell whether the source is wider than the method can compute: AWQ's kernels know 16 bits alone."""
    types = hf.stored_types(checkpoint, "source")
    return method == "awq" and hf.torch_name(checkpoint.stored, types) == "float32"


def _scratch(model: Model, prepared: Feed, types: Mapping[str, str], config: Mapping[str, Any]) -> Scratch:
    files = {"config.json": to_json(config)}
    if prepared.files is None:
        # Before the weights are here nobody knows; most sources but the relabeled can be read as they lie.
        if not prepared.is_read and not is_relabeled(model):
            return Scratch((), files, {})
        layouts, index = shard_layouts(prepared.checkpoint.stored, types, SCRATCH_SHARD_BYTES)
        return Scratch(layouts, {**files, **index}, {})
    links = {path.name: path for path in prepared.files.values()}
    if len(links) > 1:
        names = {name: path.name for name, path in prepared.files.items()}
        files[INDEX_NAME] = to_json({"metadata": {}, "weight_map": names})
    return Scratch((), files, links)


def _make(
    method: Method,
    options: Options,
    prepared: Feed,
    types: Mapping[str, str],
    place: Workplace,
    *,
    may_round: bool,
) -> Made:
    damp = getattr(options, "damp", None)
    outcome = quantize(
        Job(
            source=place.checkpoint,
            out=place.out,
            method=method,
            windows=prepared.windows.tokens,
            matrices=prepared.matrices,
            bits=options.bits,
            group_size=options.group_size,
            desc_act=getattr(options, "desc_act", False),
            sym=options.sym,
            damp=damp,
            device=options.device,
            seed=prepared.seed,
            threads=place.threads,
            left=estimate.left_out(prepared.checkpoint.stored),
            may_round=may_round,
        ),
        progress=place.progress,
    )
    encodings = manifest.encodings(method, options, place.out, outcome)
    deviations = manifest.deviations(damp, outcome, types, encodings)
    return Made(encodings, deviations, {"made_on": outcome.device})
