"""Quantized checkpoints: what one is stored as, and its matrices widened while they are read.

A scheme is one file in `schemes`. What no scheme reads is refused by its own name.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from convert.checkpoint.quantized import schemes
from convert.checkpoint.quantized.refusal import refuse
from convert.checkpoint.quantized.widened import WidenedCheckpoint
from convert.checkpoint.reader import Checkpoint, open_stored
from convert.model.config import Config, read_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from convert.checkpoint.quantized.scheme import Scheme
    from convert.source.shards import Absent

# Where tools record in a config that they quantized a checkpoint, and how where they do not name it.
SECTIONS = {
    "quantization_config": "an unnamed method",
    "compression_config": "compressed-tensors",
    "quantization": "MLX",
}
_MODELOPT = "hf_quant_config.json"
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def scheme_of(config: Config, folder: Path) -> Scheme | None:
    """Find out how the weights of a folder are quantized, None where they are not; refuse unknown ways."""
    section = _section(config, folder)
    if section is None:
        return None
    method = section.text("quant_method")
    if method not in _readers():
        raise refuse(method, section.where, folder)
    return _readers()[method](section)


def without_sections(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a config what says that its weights are quantized."""
    kept = {name: value for name, value in values.items() if name not in SECTIONS}
    if isinstance(inner := kept.get("text_config"), dict):
        kept["text_config"] = without_sections(inner)
    return kept


def open_checkpoint(folder: Path, absent: Mapping[str, Absent] = MappingProxyType({})) -> Checkpoint:
    """Open a folder of weights; those that are quantized, as config.json says, are widened while read."""
    raw = open_stored(folder, absent)
    if not (folder / "config.json").is_file():
        return raw
    config = read_config(folder)
    scheme = scheme_of(config, folder)
    return raw if scheme is None else WidenedCheckpoint(raw, scheme, _dtype(config))


@cache
def _readers() -> dict[str, Callable[[Config], Scheme]]:
    """Load the schemes, by the methods that they read."""
    found: dict[str, Callable[[Config], Scheme]] = {}
    for each in pkgutil.iter_modules(schemes.__path__):
        module = importlib.import_module(f"{schemes.__name__}.{each.name}")
        found |= dict.fromkeys(module.METHODS, module.read)
    return found


def _section(config: Config, folder: Path) -> Config | None:
    inner = config.section("text_config")
    for each in (config, *([inner] if inner else [])):
        for key, usual in SECTIONS.items():
            if (section := each.section(key)) and section.values:
                loads = any(name.startswith("load_in_") for name in section.values)
                method = "bitsandbytes" if loads else usual
                return Config(
                    {**section.values, "quant_method": section.text("quant_method", method)}, section.where
                )
    if not (folder / _MODELOPT).is_file():
        return None
    record = read_config(folder, _MODELOPT)
    section = record.section("quantization") or Config({}, record.where)
    return Config({"quant_method": "modelopt", **section.values}, f"{_MODELOPT}: ModelOpt's record")


def _dtype(config: Config) -> str:
    """Name the float that the model's other weights have, for what is written as the source has it."""
    inner = config.values.get("text_config")
    for values in (config.values, inner if isinstance(inner, dict) else {}):
        said = str(values.get("torch_dtype") or values.get("dtype")).removeprefix("torch.")
        if said in _DTYPES:
            return _DTYPES[said]
    return "F16" if config.values.get("fp16") is True else "BF16"
