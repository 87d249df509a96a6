"""What config.json and tensor names mean: one file per model_type, and its name is the registry."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from convert.errors import Failure
from convert.model.decoder import Decoder, Origin, Ref, Role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.checkpoint import TensorInfo
    from convert.model.config import Config

# A name beyond this many is counted, not printed.
MAX_NAMES_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Naming:
    """How a family of checkpoints names the roles; roles of one name are stacked in it, in this order."""

    names: Mapping[Role, str]
    prefix: str = ""  # an outer module that some files name and others leave out
    transposed: frozenset[Role] = frozenset()  # stored (in, out), as GPT-2's Conv1D does
    ignored: tuple[str, ...] = ()  # buffers, by pattern: recomputed by every runtime
    aliases: Mapping[str, str] = field(default_factory=dict)  # other spellings of a whole name


class Architecture(Protocol):
    """What each file of this folder defines."""

    CLASSES: tuple[str, ...]
    NAMING: Naming

    def describe(self, config: Config) -> Decoder:
        """Read the sizes and switches."""


def supported() -> tuple[str, ...]:
    """List the model types that can be read."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def find_architecture(config: Config) -> Architecture:
    """Find the file for a config's model_type, or refuse with the list of those there are."""
    model_type = config.text("model_type")
    known = ", ".join(supported())
    if model_type not in supported():
        raise Failure(
            f"{config.where}: model_type {model_type!r} is not supported",
            f"supported are: {known}",
        )
    for key, what in (
        ("vision_config", "a vision tower"),
        ("audio_config", "an audio tower"),
        ("num_local_experts", "a mixture of experts"),
        ("num_experts", "a mixture of experts"),
    ):
        if config.has(key):
            raise Failure(
                f"{config.where}: {key} names {what}, which is not supported",
                f"supported are dense text decoders: {known}",
            )
    for key in ("quantization_config", "compression_config"):
        if config.has(key):
            section = config.section(key)
            method = section.text("quant_method", "unknown") if section else "unknown"
            raise Failure(
                f"{config.where}: the source is already quantised ({method})",
                "convert from the original weights: what a first quantisation lost cannot be brought back",
            )
    architecture: Architecture = importlib.import_module(f"{__name__}.{model_type}")
    _check_class(config, architecture, model_type)
    return architecture


def _check_class(config: Config, architecture: Architecture, model_type: str) -> None:
    classes = config.values.get("architectures")
    if classes is None:
        return
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise Failure(f"{config.where}: architectures is no list of names", "fetch the file again")
    if classes and not set(classes) & set(architecture.CLASSES):
        raise Failure(
            f"{config.where}: {', '.join(classes)} is not a text decoder of type {model_type}",
            f"supported for {model_type}: {', '.join(architecture.CLASSES)}",
        )


def bind(
    decoder: Decoder, naming: Naming, tensors: Mapping[str, TensorInfo]
) -> tuple[dict[Ref, Origin], tuple[str, ...]]:
    """Say where every canonical tensor lies in the source, and which source tensors are left out.

    Every source tensor is used, tied or ignored by name and every role is filled; anything else is an error.
    """
    prefix = _prefix(naming, tensors)
    origins: dict[Ref, Origin] = {}
    rows_taken: dict[str, int] = defaultdict(int)
    missing: list[str] = []
    for ref, shape in decoder.shapes():
        name = prefix + naming.names[ref.role].format(layer=ref.layer) + f".{ref.part}"
        name = naming.aliases.get(name, name)
        if name not in tensors:
            missing.append(name)
            continue
        is_transposed = ref.part == "weight" and ref.role in naming.transposed
        origins[ref] = Origin(name, rows_taken[name], is_transposed)
        rows_taken[name] += shape[0]
    if missing:
        _refuse_missing(decoder, list(dict.fromkeys(missing)), tensors)
    _check_shapes(decoder, origins, rows_taken, tensors)
    return origins, _left_out(decoder, naming, prefix, set(rows_taken), tensors)


def _prefix(naming: Naming, tensors: Mapping[str, TensorInfo]) -> str:
    """Tell whether this file names the outer module."""
    if not naming.prefix or any(name.startswith(naming.prefix) for name in tensors):
        return naming.prefix
    return ""


def _refuse_missing(decoder: Decoder, missing: Sequence[str], tensors: Mapping[str, TensorInfo]) -> None:
    layers = {int(match[1]) for name in tensors if (match := re.search(r"\.(\d+)\.", "." + name))}
    hint = "the checkpoint is incomplete, or config.json is of another model"
    if layers and max(layers) + 1 != decoder.layer_count:
        hint = f"config.json says {decoder.layer_count} layers, and the weights have {max(layers) + 1}"
    raise Failure(f"{_counted(missing, 'tensor')} missing from the checkpoint", hint)


def _check_shapes(
    decoder: Decoder,
    origins: Mapping[Ref, Origin],
    rows_taken: Mapping[str, int],
    tensors: Mapping[str, TensorInfo],
) -> None:
    for ref, shape in decoder.shapes():
        origin = origins[ref]
        wanted = (rows_taken[origin.name], *shape[1:])
        if origin.is_transposed:
            wanted = wanted[::-1]
        found = tensors[origin.name].shape
        if found != wanted:
            raise Failure(
                f"{tensors[origin.name].file.name}: {origin.name} is {_by(found)}, "
                f"and config.json makes it {_by(wanted)}",
                "the weights and config.json belong to different models, or one is damaged",
            )


def _left_out(
    decoder: Decoder, naming: Naming, prefix: str, used: set[str], tensors: Mapping[str, TensorInfo]
) -> tuple[str, ...]:
    tied = set()
    if decoder.is_tied:
        head = naming.names[Role.HEAD] + ".weight"
        tied = {head, prefix + head}
    left_out, unknown = [], []
    for name in tensors:
        if name in used:
            continue
        bare = name.removeprefix(prefix)
        if name in tied or any(re.fullmatch(pattern, bare) for pattern in naming.ignored):
            left_out.append(name)
        else:
            unknown.append(name)
    if unknown:
        raise Failure(
            f"{_counted(unknown, 'tensor')} in the checkpoint that the model has no place for",
            f"config.json says {decoder.layer_count} layers of type {decoder.family}; "
            "an adapter or another architecture would have to be merged or supported first",
        )
    return tuple(left_out)


def _counted(names: Sequence[str], what: str) -> str:
    shown = ", ".join(names[:MAX_NAMES_SHOWN])
    more = len(names) - MAX_NAMES_SHOWN
    plural = what if len(names) == 1 else what + "s"
    return f"{len(names)} {plural} ({shown}{f' and {more} more' if more > 0 else ''})"


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape) or "a scalar"
