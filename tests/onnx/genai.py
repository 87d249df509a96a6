"""Artifacts made here and opened in onnxruntime-genai."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime_genai as genai

from convert.checkpoint import open_checkpoint
from convert.formats.onnx.format import FORMAT
from convert.formats.onnx.options import OnnxOptions
from convert.model.binding import bind
from convert.model.config import read_config
from convert.model.families import find_family
from convert.model.source import Model, Weights
from convert.progress import Silent
from convert.tokenizer import Kind, Tokenizer
from convert.writer import engine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

genai.disable_telemetry_events()

# What stands in for a tokenizer where no text passes.
NUMBERS = Tokenizer(
    kind=Kind.BYTE_BPE,
    tokens=(),
    types=(),
    merges=(),
    scores=None,
    added=(),
    bos_id=1,
    eos_id=2,
    unk_id=None,
    pad_id=None,
    eot_id=None,
    eog_ids=(2,),
    add_bos=False,
    add_eos=False,
    chat_template=None,
    json=b"{}",
    config={},
)


def convert_folder(
    folder: Path, out: Path, *, threads: int = 2, generation: Mapping[str, Any] | None = None, **settings: Any
) -> Path:
    """Convert a checkpoint without a tokenizer into one artifact; give its folder."""
    config = read_config(folder)
    family = find_family(config)
    decoder = family.describe(config)
    model = Model("Tiny", None, decoder, NUMBERS, folder, generation=generation or {})
    options = OnnxOptions.model_validate(settings, strict=False)
    (target,) = options.by_target()
    recipe: Any = None  # nothing of it reaches this format
    out.mkdir(parents=True)
    with open_checkpoint(folder) as checkpoint:
        binding = bind(decoder, family.naming, checkpoint.tensors)
        prepared = FORMAT.learn(
            FORMAT.prepare(model, options, recipe),
            model,
            options,
            recipe,
            weights=Weights(checkpoint, binding),
            progress=Silent(),
        )
        planned = FORMAT.lay_out(model, options, target, prepared)
        outputs = [engine.Output(layout, out / layout.path) for layout in planned.layouts]
        engine.run(checkpoint, binding.origins, outputs, threads=threads)
    for name, content in planned.files.items():
        (out / name).write_bytes(content)
    return out


def logits(folder: Path, chunks: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Feed tokens in chunks, and give the logits of every position."""
    config = genai.Config(str(folder))
    config.clear_providers()  # a graph for CUDA runs on a CPU too
    model = genai.Model(config)
    params = genai.GeneratorParams(model)
    params.set_search_options(max_length=sum(map(len, chunks)) + 1)
    generator = genai.Generator(model, params)
    rows = []
    for chunk in chunks:
        generator.append_tokens(np.array([chunk], np.int32))
        rows.append(np.array(generator.get_output("logits"), np.float32)[0])
    return np.concatenate(rows)
