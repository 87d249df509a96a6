"""The source's own weights, mapped, under the names of Transformers' own class."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convert.checkpoint import open_checkpoint
from convert.errors import Failure
from convert.model.families import family, supported
from convert.model.family import Reference
from convert.strict_json import parse_object
from verify.runtimes._widened import widen


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config without what names code, since none is run."""
    path = folder / "config.json"
    hint = "a source needs its config.json"
    try:
        config = parse_object(path.read_bytes(), str(path), hint, has_infinity=True)
    except OSError as fault:
        raise Failure(f"{path}: {fault}", hint) from None
    config.pop("auto_map", None)
    return config


def text_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config says of the text decoder, where it describes other parts as well."""
    inner = config.get("text_config")
    said = (
        {key: value for key, value in inner.items() if value is not None} if isinstance(inner, dict) else {}
    )
    return {**config, **said}


def reference_of(model_type: str) -> Reference | None:
    """Find how Transformers knows a family that it has no class for."""
    return family(model_type).reference if model_type in supported() else None


def read_weights(
    folder: Path, model_type: str, *, is_wide: Callable[[int], bool] = lambda _: True
) -> dict[str, Any]:
    """Map every tensor, as a view of the mapped file: read when it is used, and the kernel may drop it.

    What is quantized is widened, as float32 where `is_wide` says of so many bytes that they fit.
    """
    from safetensors import safe_open

    with open_checkpoint(folder) as checkpoint:
        if any(info.stored_as for info in checkpoint.tensors.values()):
            return _as_known(model_type, widen(checkpoint, is_wide=is_wide))
    tensors: dict[str, Any] = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  (no mapping)
                tensors[name] = opened.get_tensor(name)
    return _as_known(model_type, tensors)


def _as_known(model_type: str, tensors: dict[str, Any]) -> dict[str, Any]:
    reference = reference_of(model_type)
    return dict(reference.tensors(tensors)) if reference else tensors


def stored_type(tensors: Mapping[str, Any]) -> Any:
    """Return the type that most of the weights have: a vision tower's may be another than the decoder's."""
    counts: Counter[Any] = Counter()
    for tensor in tensors.values():
        counts[tensor.dtype] += tensor.numel()
    return counts.most_common(1)[0][0]


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files that the index names, or the only one."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = parse_object(index.read_bytes(), str(index), "").get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
            raise Failure(f"{index}: has no weight_map")
        names = sorted(set(named.values()))
        if any("/" in name or name.startswith(".") for name in names):
            raise Failure(f"{index}: names a file outside the folder")
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise Failure(
            f"{folder}: one safetensors file or an index was expected, and there are {len(files)}",
            "weights in .bin files are never unpickled here: give a folder with safetensors",
        )
    return files
