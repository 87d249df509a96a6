"""An adapter's files: its tensors, sorted by the module of the model that each belongs to."""

import re
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.checkpoint.adapter.config import LoraConfig, read_lora_config
from convert.checkpoint.mapped import MappedFile
from convert.checkpoint.reader import Checkpoint
from convert.checkpoint.safetensors import read_safetensors
from convert.checkpoint.tensor import DAMAGED, TensorInfo
from convert.checkpoint.torch_file import read_torch
from convert.errors import Failure, shown
from convert.source import ADAPTER_WEIGHTS

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_PREFIX = "base_model.model."
ANOTHER = "this adapter was trained on another model"
_SAVE_AGAIN = "save the adapter again with PEFT's save_pretrained"
# What a check reads of a tensor at once.
_CHECKED_WEIGHTS = 1 << 22
_PART = re.compile(
    r"(?P<module>.+?)(?P<wrappers>(\.base_layer)*)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias"
    r"|lora_embedding_A|lora_embedding_B|lora_magnitude_vector|token_adapter\.trainable_tokens_delta)(\.weight)?"
)
_WHOLE = re.compile(r"(?P<module>.+?)(\.(base_layer|modules_to_save|original_module))?\.(?P<part>[^.]+)")
_PARTS = {
    "lora_A.weight": "a", "lora_embedding_A": "a", "lora_B.weight": "b", "lora_embedding_B": "b",
    "lora_B.bias": "bias", "lora_magnitude_vector": "magnitude",
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """The two narrow matrices of a module, and what goes with them."""

    module: str
    depth: int  # how many other parameters of the module are adapted within: PEFT nests these
    a: TensorInfo  # (rank, in)
    b: TensorInfo  # (out, rank)
    is_embedding: bool
    bias: TensorInfo | None = None
    magnitude: TensorInfo | None = None


@dataclass(frozen=True)
class Adapter(AbstractContextManager["Adapter"]):
    """An open adapter; names are as its author's model has them, without PEFT's own prefix."""

    config: LoraConfig
    weights: Checkpoint
    pairs: tuple[Pair, ...]
    whole: Mapping[str, TensorInfo]  # tensors that were trained whole, by the name of the one they replace
    tokens: Mapping[str, TensorInfo]  # rows of an embedding, by its module

    @property
    def file(self) -> Path:
        """Name the file of its tensors."""
        return next(iter(self.weights.tensors.values())).file

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Map each tensor that a single matrix or a pair changes to its shape where it was trained."""
        pairs = {f"{pair.module}.weight": (pair.b.shape[0], pair.a.shape[1]) for pair in self.pairs}
        return pairs | {name: info.shape for name, info in self.whole.items()}

    def close(self) -> None:
        """Close the file."""
        self.weights.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def open_adapter(folder: Path) -> Adapter:
    """Open an adapter, and check every tensor of it."""
    config = read_lora_config(folder)
    path = next((folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise Failure(f"{folder}: no {' or '.join(ADAPTER_WEIGHTS)}", _SAVE_AGAIN)
    file = MappedFile(path)
    tensors = read_safetensors(file) if path.suffix == ".safetensors" else read_torch(file)
    if not tensors:
        raise Failure(f"{path}: holds no tensors", _SAVE_AGAIN)
    weights = Checkpoint(folder, {path: file}, tensors)
    for info in tensors:
        _check_numbers(weights, info)
    parts: dict[tuple[str, int, bool], dict[str, TensorInfo]] = defaultdict(dict)
    whole: dict[str, TensorInfo] = {}
    tokens: dict[str, TensorInfo] = {}
    for info in tensors:
        name = info.name.removeprefix(_PREFIX)
        if match := _PART.fullmatch(name):
            module, part = match["module"], match["part"]
            if part not in _PARTS:
                tokens[module] = info
                continue
            key = module, match["wrappers"].count("."), "embedding" in part
            parts[key][_PARTS[part]] = info
        elif ".lora_" not in name and (match := _WHOLE.fullmatch(name)):
            whole[f"{match['module']}.{match['part']}"] = info
        else:
            raise Failure(f"{path}: {shown(info.name)} is no tensor of a LoRA adapter's", _SAVE_AGAIN)
    return Adapter(config, weights, tuple(_pairs(path, config, parts)), whole, tokens)


def _pairs(
    path: Path, config: LoraConfig, parts: Mapping[tuple[str, int, bool], dict[str, TensorInfo]]
) -> list[Pair]:
    # A magnitude's name does not say that its module is an embedding.
    embeddings = {module for module, _, is_embedding in parts if is_embedding}
    joined: dict[tuple[str, int, bool], dict[str, TensorInfo]] = defaultdict(dict)
    for (module, depth, _), found in parts.items():
        joined[module, depth, module in embeddings] |= found
    pairs = []
    for (module, depth, is_embedding), found in joined.items():
        for part in "ab":
            if part not in found or len(found[part].shape) != 2:
                what = f"{path}: {shown(module)} has no matrix lora_{part.upper()}"
                raise Failure(what, "the adapter was saved incompletely: save it again, from all its shards")
        if config.is_dora and "magnitude" not in found:
            raise Failure(f"{path}: {shown(module)} has no lora_magnitude_vector", _SAVE_AGAIN)
        pairs.append(Pair(module, depth, is_embedding=is_embedding, **found))
    return pairs


def _check_numbers(weights: Checkpoint, info: TensorInfo) -> None:
    where = f"{info.file}: {shown(info.name)}"
    if info.dtype not in _FLOATS:
        raise Failure(f"{where} is of type {info.dtype}, which no adapter is merged from", _SAVE_AGAIN)
    if 0 in info.shape:
        raise Failure(
            f"{where} is empty", "the adapter was saved incompletely: save it again, from all its shards"
        )
    count = info.shape[0] if info.shape else 1
    step = max(1, _CHECKED_WEIGHTS * count // max(1, info.size_bytes))
    for row in range(0, count, step):
        rows = weights.rows(info.name, row, min(count, row + step))
        if not np.isfinite(rows.max()) or not np.isfinite(rows.min()):
            raise Failure(f"{where} holds a value that is not a number or infinite", DAMAGED)
    weights.release(info.name)


def misfit(info: TensorInfo, found: str, hint: str) -> Failure:
    """Say that a tensor of an adapter does not fit."""
    return Failure(f"{info.file}: {shown(info.name)} is {found}", hint)
