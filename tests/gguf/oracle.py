"""llama.cpp itself, asked to quantise and to run what was written."""

from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING, Any

import gguf
import llama_cpp
import numpy as np

from convert.checkpoint import open_checkpoint
from convert.checkpoint.gguf_file import TYPES, read_gguf
from convert.formats.gguf.format import FORMAT
from convert.formats.gguf.header import Field
from convert.formats.gguf.mixture import MIXTURES
from convert.formats.gguf.options import GgufOptions, Quant
from convert.formats.gguf.shared import Shared
from convert.formats.hf.format import promised_type
from convert.model.binding import bind
from convert.model.config import read_config
from convert.model.families import describe
from convert.model.source import Model
from convert.writer import engine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from convert.formats.base import Planned
    from convert.formats.gguf.importance import Importance
    from convert.model.decoder import Decoder

VALUE = gguf.GGUFValueType
TYPE_COUNT = 43  # GGML_TYPE_COUNT


def plain_vocabulary(size: int) -> dict[str, Field]:
    """A vocabulary of numbered tokens: what llama.cpp needs to load a file whose text does not matter."""
    return {
        "tokenizer.ggml.model": Field("gpt2", VALUE.STRING),
        "tokenizer.ggml.pre": Field("gpt-2", VALUE.STRING),
        "tokenizer.ggml.tokens": Field([f"<{number}>" for number in range(size)], VALUE.ARRAY, VALUE.STRING),
        "tokenizer.ggml.token_type": Field([1] * size, VALUE.ARRAY, VALUE.INT32),
        "tokenizer.ggml.merges": Field(["< 1"], VALUE.ARRAY, VALUE.STRING),
    }


def convert_folder(
    folder: Path,
    out: Path,
    quants: Sequence[str],
    *,
    threads: int = 2,
    split_max_size: str | None = None,
    importance: Importance | None = None,
    wishes: Mapping[str, Any] | None = None,
) -> dict[str, list[Path]]:
    """Convert a checkpoint without a tokenizer; name the files of each quant."""
    artifacts = planned(folder, quants, split_max_size=split_max_size, importance=importance, wishes=wishes)
    family, decoder = describe(read_config(folder))
    out.mkdir(parents=True, exist_ok=True)
    with open_checkpoint(folder) as checkpoint:
        origins = bind(decoder, family.naming, checkpoint.tensors).origins
        outputs = [
            engine.Output(layout, out / layout.path) for artifact in artifacts for layout in artifact.layouts
        ]
        engine.run(checkpoint, origins, outputs, threads=threads)
    return {
        quant: [out / layout.path for layout in artifact.layouts]
        for quant, artifact in zip(quants, artifacts, strict=True)
    }


def described(folder: Path) -> Decoder:
    """Describe a checkpoint."""
    return describe(read_config(folder))[1]


def planned(
    folder: Path,
    quants: Sequence[str],
    *,
    split_max_size: str | None = None,
    importance: Importance | None = None,
    wishes: Mapping[str, Any] | None = None,
) -> list[Planned]:
    """Plan the artifacts of a checkpoint without a tokenizer."""
    _, decoder = describe(read_config(folder))
    model = Model("Tiny", None, decoder, None, folder)  # type: ignore[arg-type] # no text passes here
    options = GgufOptions(
        quants=tuple(Quant(quant) for quant in quants), split_max_size=split_max_size, **(wishes or {})
    )
    prepared = Shared(
        plain_vocabulary(decoder.vocab_size),
        (),
        importance is not None,
        importance,
        native=promised_type(model) if options.leave_output_tensor else "",
    )
    return [FORMAT.lay_out(model, options, target, prepared) for target in options.by_target()]


def quantize(
    source: Path,
    target: Path,
    quant: str,
    importance: Mapping[str, NDArray[np.float32]] | None = None,
    wishes: Mapping[str, Any] | None = None,
) -> None:
    """Let llama.cpp quantise a file."""
    silence()
    params = _params(quant, importance, wishes or {})
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    assert status == 0, f"llama.cpp refused to quantise {source} to {quant}"


def chosen_types(source: Path, quant: str, *, has_imatrix: bool) -> dict[str, str] | None:
    """Ask llama.cpp which type each tensor would get, if it can; what it leaves alone is left out."""
    lines: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def listen(_level: int, text: bytes, _data: int) -> None:
        lines.append(text.decode())

    params = _params(quant, {"none": np.ones(1, np.float32)} if has_imatrix else None, {})
    params.dry_run = True
    llama_cpp.llama_log_set(listen, ctypes.c_void_p(0))
    try:
        status = llama_cpp.llama_model_quantize(str(source).encode(), b"", ctypes.byref(params))
    finally:
        silence()
    if status:
        return None
    said = re.findall(r"\] +(\S+) +- \[.*?\], type = .*?MiB -> .*?\((\w+)\)", "".join(lines))
    return {name: type_.upper() for name, type_ in said}


def _params(
    quant: str, importance: Mapping[str, NDArray[np.float32]] | None, wishes: Mapping[str, Any]
) -> Any:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = MIXTURES[quant].file_type
    params.nthread = 2
    if importance is not None:
        rows: Any = (llama_cpp.llama_model_imatrix_data * (len(importance) + 1))()
        for row, (name, values) in zip(rows, importance.items(), strict=False):
            row.name, row.size = name.encode(), values.size
            row.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        params.imatrix = rows
    if types := wishes.get("tensor_types"):
        overrides: Any = (llama_cpp.llama_model_tensor_override * (len(types) + 1))()
        for override, (expression, type_) in zip(overrides, types.items(), strict=False):
            override.pattern, override.type = expression.encode(), TYPES[type_].number
        overrides[len(types)].type = TYPE_COUNT
        params.tt_overrides = overrides
    params.pure = wishes.get("pure", False)
    if type_ := wishes.get("output_type"):
        params.output_tensor_type = TYPES[type_].number
    if type_ := wishes.get("embedding_type"):
        params.token_embedding_type = TYPES[type_].number
    return params


def tensors(*paths: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Read the type, shape and bytes of every tensor; a quantized file drops axes of one."""
    found = {}
    for path in paths:
        data = memoryview(path.read_bytes())
        for tensor in read_gguf(path).tensors:
            shape = tuple(size for axis, size in enumerate(tensor.shape) if size > 1 or axis == 0)
            stored = data[tensor.offset_bytes : tensor.offset_bytes + tensor.size_bytes]
            found[tensor.name] = (tensor.type_name, shape, bytes(stored))
    return found


def fields(path: Path) -> dict[str, Any]:
    """Read the key-values."""
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


def logits(path: Path, tokens: Sequence[int]) -> NDArray[np.float32]:
    """Run a file in llama.cpp, with a cache of 32 bits, and give the logits of every position."""
    silence()
    model = llama_cpp.Llama(
        str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=1, type_k=0, type_v=0
    )
    try:
        model.eval([int(token) for token in tokens])
        return np.array(model.scores[: len(tokens)], np.float32)
    finally:
        model.close()


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _say_nothing(_level: int, _text: bytes, _data: int) -> None: ...


def silence() -> None:
    """Keep llama.cpp's own log out of the tests' output."""
    llama_cpp.llama_log_set(_say_nothing, ctypes.c_void_p(0))
