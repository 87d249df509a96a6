"""The places of all canonical tensors in a source, of which every tensor is accounted for."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from convert.checkpoint import TensorInfo
from convert.errors import Failure
from convert.model.decoder import Decoder, Origin, Ref, Role
from convert.model.family import Naming

# A name beyond this many is counted, not printed.
MAX_NAMES_SHOWN = 6


def name_of(naming: Naming, ref: Ref, prefix: str | None = None) -> str:
    """Spell a tensor's name in the source, by default with the naming's outer module."""
    stem = naming.names[ref.role].format(layer=ref.layer, expert=ref.expert)
    name = f"{naming.prefix if prefix is None else prefix}{stem}.{ref.part}"
    return naming.aliases.get(name, name)


def is_transposed(naming: Naming, ref: Ref) -> bool:
    """Check whether a tensor is stored (in, out)."""
    return ref.part == "weight" and ref.role in naming.transposed


def bind(
    decoder: Decoder, naming: Naming, tensors: Mapping[str, TensorInfo]
) -> tuple[dict[Ref, Origin], tuple[str, ...]]:
    """Find every canonical tensor in the source, and list the source tensors that are left out.

    Every source tensor is used, tied or ignored by name and every role is filled; anything else is an error.
    """
    prefix = _prefix(naming, tensors)
    origins: dict[Ref, Origin] = {}
    rows_taken: dict[str, int] = defaultdict(int)
    missing: list[str] = []
    for ref, shape in decoder.shapes():
        name = name_of(naming, ref, prefix)
        if name not in tensors:
            missing.append(name)
            continue
        origins[ref] = Origin(name, rows_taken[name], is_transposed(naming, ref))
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
