"""The files that hold a folder's weights, and the tensors that the index lists in each."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convert.errors import Failure, shown
from convert.strict_json import parse_object

Format = Literal["safetensors", "torch"]

# In order of preference: safetensors before pickles.
_SINGLE: dict[Format, str] = {"safetensors": "model.safetensors", "torch": "pytorch_model.bin"}
_MAX_INDEX_BYTES = 100_000_000
MISMATCHED = "the index and the shards are of different versions: download the folder again"
_WEIGHT_SUFFIXES = (
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot", ".onnx", ".gguf", ".index.json",
)  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """The files to read, and the tensors in each if there is an index."""

    format: Format
    files: tuple[Path, ...]
    listed: Mapping[str, Path] | None  # tensor name → shard; None without an index
    index: Path | None


def has_single(folder: Path) -> bool:
    """Check whether all weights are here in one file."""
    return any((folder / name).is_file() for name in _SINGLE.values())


def find_weights(folder: Path, absent: Collection[str] = ()) -> Weights:
    """Find a folder's weights: safetensors if there are any, else PyTorch's own format.

    Shards that are `absent` need not be here.
    """
    if not folder.is_dir():
        raise Failure(f"{folder}: not a folder", "name the folder that holds config.json and the weights")
    for format_, name in _SINGLE.items():
        single, index = folder / name, folder / f"{name}.index.json"
        if index.exists():
            weights = _read_index(folder, index, format_, absent)
            if single.exists() and single not in weights.files:
                what = f"{folder}: has both {name} and {index.name}, which does not list {name}"
                raise Failure(what, "remove the one that is not this model's")
            return weights
        if single.exists():
            return Weights(format_, (single,), None, None)
    raise _not_found(folder)


def index_names(folder: Path) -> tuple[str, ...] | None:
    """Name the tensors that a folder's index lists, whether their shards are here; None without an index."""
    indices = (folder / f"{name}.index.json" for name in _SINGLE.values())
    return next((tuple(_weight_map(index)) for index in indices if index.exists()), None)


def _weight_map(index: Path) -> dict[str, Any]:
    try:
        if index.stat().st_size > _MAX_INDEX_BYTES:
            raise Failure(f"{index}: longer than any index ({_MAX_INDEX_BYTES} bytes)", MISMATCHED)
        text = index.read_bytes()
    except OSError as error:
        raise Failure(f"{index}: cannot be read: {error.strerror}") from error
    weight_map = parse_object(text, str(index), MISMATCHED).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise Failure(f"{index}: has no weight_map", MISMATCHED)
    return weight_map


def _read_index(folder: Path, index: Path, format_: Format, absent: Collection[str]) -> Weights:
    weight_map = _weight_map(index)
    listed = {}
    for tensor, shard in weight_map.items():
        # A bare name only: the Hub cache links out of the folder, but a path out of it is an attack.
        if not isinstance(shard, str) or not shard.isprintable() or shard in {"", ".", ".."} or "/" in shard:
            what = f"{index}: {shown(tensor)}: {shown(str(shard))} is not the name of a file in this folder"
            raise Failure(what, "an index names shards without a path; get the model from a trusted source")
        listed[tensor] = folder / shard
    files = tuple(sorted(set(listed.values())))
    if missing := [file.name for file in files if file.name not in absent and not file.is_file()]:
        tensor = next(name for name, file in listed.items() if file.name == missing[0])
        raise Failure(
            f"{index}: {len(missing)} of {len(files)} shards are missing: "
            f"{shown(', '.join(missing))} ({shown(missing[0])} should hold {shown(tensor)})",
            "download the missing shards into the folder",
        )
    return Weights(format_, files, listed, index)


def _not_found(folder: Path) -> Failure:
    found = sorted(file.name for file in folder.iterdir() if file.name.endswith(_WEIGHT_SUFFIXES))
    wanted = " or ".join(_SINGLE.values())
    listing = shown(", ".join(found)) if found else "no weights"
    if any(name.startswith("adapter_") for name in found):
        hint = "an adapter is not a whole model: name its base as `model:`, and this folder as `adapter:`"
    elif any("-of-" in name for name in found):
        hint = "shards need their index: add model.safetensors.index.json to the folder"
    elif any(name.endswith(".gguf") for name in found):
        hint = "a GGUF cannot be converted: name the model that it was made from"
    else:
        hint = "save the model with Transformers' save_pretrained, which writes model.safetensors"
    return Failure(f"{folder}: no {wanted}, with or without an index; found: {listing}", hint)
