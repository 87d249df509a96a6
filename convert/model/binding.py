"""The places of all canonical tensors in a source, of which every tensor is accounted for."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from convert.checkpoint import TensorInfo
from convert.errors import Failure
from convert.model.decoder import Decoder
from convert.model.family import AUDIO, HEADS, SEEING, VISION, Naming
from convert.model.tensor import Origin, Ref, Role, Shaped

# A name beyond this many is counted, not printed.
MAX_NAMES_SHOWN = 6


@dataclass(frozen=True)
class Binding:
    """The places of all canonical tensors in a source, and what of the source is left out."""

    naming: Naming
    origins: Mapping[Ref, Origin]
    ignored: tuple[str, ...]  # tied heads and buffers
    left_out: Mapping[str, tuple[str, ...]]  # what it is, in words -> tensors
    prefix: str = ""  # the outer module that the source names


def name_of(naming: Naming, ref: Ref, prefix: str | None = None) -> str:
    """Spell a tensor's name in the source, by default with the naming's outer module."""
    prefix = naming.prefix if prefix is None else prefix
    if (template := naming.names.get((ref.role, ref.part))) is None:
        template = f"{naming.names[ref.role]}.{ref.part}"
    if ref.role is Role.HEAD:
        prefix = prefix.removesuffix(naming.prefix)
        prefix = prefix if prefix.endswith(".") and not prefix.startswith("model.") else ""
    return prefix + template.format(layer=ref.layer, expert=ref.expert)


def is_stacked(naming: Naming, ref: Ref) -> bool:
    """Check whether a tensor is one of several along the first axis of the source's."""
    template = naming.names.get((ref.role, ref.part)) or naming.names[ref.role]
    return ref.role in naming.rows or (ref.expert is not None and "{expert}" not in template)


def is_transposed(naming: Naming, ref: Ref) -> bool:
    """Check whether a tensor is stored (in, out)."""
    return ref.part == "weight" and ref.role in naming.transposed


def bind(decoder: Decoder, naming: Naming, tensors: Mapping[str, TensorInfo]) -> Binding:
    """Find every canonical tensor in the source, and list the source tensors that are left out.

    Every source tensor is used, tied or ignored by name and every role is filled; anything else is an error.
    """
    spelled = _spellings(decoder, naming, tensors)
    if lacking := spelled[0][2]:
        _refuse_missing(decoder, lacking, tensors)
    naming, prefix = _fitting(decoder, [(each, prefix) for each, prefix, _ in spelled], tensors)
    origins, rows_taken = places(decoder, naming, prefix)
    check_shapes(decoder.shapes(), origins, rows_taken, tensors)
    ignored, left_out = _left_out(decoder, naming, prefix, {name for name, _ in rows_taken}, tensors)
    return Binding(naming, origins, ignored, left_out, prefix)


def parts_besides(decoder: Decoder, naming: Naming, names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Find what a source has besides its text decoder, in words, of the names of its tensors alone."""
    naming, prefix, _ = _spellings(decoder, naming, names)[0]
    used = {name_of(naming, ref, prefix) for ref, _ in decoder.shapes()}
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if name not in used and (what := _part(decoder, naming, prefix, name)):
            found[what].append(name)
    return _by_tower(found)


def _spellings(
    decoder: Decoder, naming: Naming, names: Collection[str]
) -> list[tuple[Naming, str, tuple[str, ...]]]:
    """Find the namings, with the outer module, by which the fewest tensors are missing; list these."""
    naming = naming.of(decoder)
    spelled = [(each, _prefix(each, names)) for each in (naming, *naming.others)]
    found = [(each, prefix, _missing(decoder, each, prefix, names)) for each, prefix in spelled]
    fewest = min(len(missing) for _, _, missing in found)
    return [each for each in found if len(each[2]) == fewest]


def _fitting(
    decoder: Decoder, spelled: Sequence[tuple[Naming, str]], tensors: Mapping[str, TensorInfo]
) -> tuple[Naming, str]:
    """Choose among namings that have the same names by the shapes: experts may be stored turned, or not."""
    for naming, prefix in spelled if len(spelled) > 1 else ():
        wanted = shapes_in_source(decoder.shapes(), *places(decoder, naming, prefix))
        if all(squeezed(tensors[name].shape) == squeezed(shape) for name, shape in wanted.items()):
            return naming, prefix
    return spelled[0]


def _missing(decoder: Decoder, naming: Naming, prefix: str, names: Collection[str]) -> tuple[str, ...]:
    wanted = dict.fromkeys(name_of(naming, ref, prefix) for ref, _ in decoder.shapes())
    return tuple(name for name in wanted if name not in names)


def places(
    decoder: Decoder, naming: Naming, prefix: str, shapes: Shaped | None = None
) -> tuple[dict[Ref, Origin], dict[tuple[str, int | None], int]]:
    """Place each tensor in the source, and count the rows that are taken of each of its matrices."""
    origins: dict[Ref, Origin] = {}
    taken: dict[tuple[str, int | None], int] = defaultdict(int)
    dealt: dict[tuple[str, int | None], int] = defaultdict(int)
    for ref, shape in shapes or decoder.shapes():
        name = name_of(naming, ref, prefix)
        index = (ref.expert or 0) if is_stacked(naming, ref) else None
        run = naming.runs[ref.role](decoder, ref.layer or 0) if ref.role in naming.runs else 0
        first = dealt[name, index] if run else taken[name, index]
        origins[ref] = Origin(name, first, is_transposed(naming, ref), index, run)
        taken[name, index] += shape[0]
        dealt[name, index] += run
    periods = {
        ref: replace(origin, period_rows=dealt[origin.name, origin.index])
        for ref, origin in origins.items()
        if origin.run_rows
    }
    return origins | periods, taken


def _prefix(naming: Naming, names: Collection[str]) -> str:
    """Tell which outer module this file names."""
    embed = Ref(Role.EMBED)
    found = (prefix for prefix in naming.prefixes if name_of(naming, embed, prefix) in names)
    return next(found, naming.prefix)


def _refuse_missing(decoder: Decoder, missing: Sequence[str], tensors: Mapping[str, TensorInfo]) -> None:
    layers = {int(match[1]) for name in tensors if (match := re.search(r"\.(\d+)\.", "." + name))}
    hint = "the checkpoint is incomplete, or config.json is of another model"
    if layers and max(layers) + 1 != decoder.layer_count:
        hint = f"config.json says {decoder.layer_count} layers, and the weights have {max(layers) + 1}"
    raise Failure(f"{_counted(missing, 'tensor')} missing from the checkpoint", hint)


def check_shapes(
    shapes: Shaped,
    origins: Mapping[Ref, Origin],
    rows_taken: Mapping[tuple[str, int | None], int],
    tensors: Mapping[str, TensorInfo],
) -> None:
    """Check that each tensor has the shape that the config gives it."""
    for name, wanted in shapes_in_source(shapes, origins, rows_taken).items():
        found = tensors[name].shape
        if squeezed(found) != squeezed(wanted):
            raise Failure(
                f"{tensors[name].file.name}: {name} is {_by(found)}, and config.json makes it {_by(wanted)}",
                "the weights and config.json belong to different models, or one is damaged",
            )


def shapes_in_source(
    shapes: Shaped, origins: Mapping[Ref, Origin], rows_taken: Mapping[tuple[str, int | None], int]
) -> dict[str, tuple[int, ...]]:
    """Compute the shape of each tensor of the source, by its name there; axes of one are left out."""
    counts: dict[str, int] = defaultdict(int)
    for name, index in rows_taken:
        counts[name] += index is not None
    found: dict[str, tuple[int, ...]] = {}
    for ref, shape in shapes:
        origin = origins[ref]
        wanted = (rows_taken[origin.name, origin.index], *shape[1:])
        if origin.is_transposed:
            wanted = wanted[::-1]
        if origin.index is not None:
            wanted = (counts[origin.name], *wanted)
        found[origin.name] = wanted
    return found


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Leave out axes of one, which convolutions and gates have."""
    return tuple(size for size in shape if size != 1)


def _left_out(
    decoder: Decoder, naming: Naming, prefix: str, used: set[str], tensors: Mapping[str, TensorInfo]
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    tied = {name_of(naming, Ref(Role.HEAD), each) for each in naming.prefixes} if decoder.is_tied else set()
    ignored: list[str] = []
    unknown: list[str] = []
    left_out: dict[str, list[str]] = defaultdict(list)
    for name in tensors:
        bare = name.removeprefix(prefix)
        if name in used:
            continue
        if (
            tensors[name].is_idle
            or name in tied
            or bare in tied
            or any(re.fullmatch(pattern, bare) for pattern in naming.ignored)
        ):
            ignored.append(name)
        elif what := _part(decoder, naming, prefix, name):
            left_out[what].append(name)
        else:
            unknown.append(name)
    if unknown:
        raise Failure(
            f"{_counted(unknown, 'tensor')} in the checkpoint that the model has no place for",
            f"config.json says {decoder.layer_count} layers of type {decoder.family}; "
            "an adapter or another architecture would have to be merged or supported first",
        )
    return tuple(ignored), _by_tower(left_out)


def _by_tower(found: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    """Count a projector to the tower that hears where there is none that sees: both name it alike."""
    parts = {what: tuple(names) for what, names in found.items()}
    if AUDIO in parts and not any(re.fullmatch(SEEING, name) for name in parts.get(VISION, ())):
        parts[AUDIO] += parts.pop(VISION, ())
    return parts


def _next_layers(decoder: Decoder, naming: Naming) -> list[str]:
    """Say how the names begin of the layers for further tokens."""
    numbers = range(decoder.layer_count, decoder.layer_count + decoder.next_layer_count)
    return [naming.next_layer.format(layer=number) for number in numbers if naming.next_layer]


def _part(decoder: Decoder, naming: Naming, prefix: str, name: str) -> str | None:
    """Say of what else a tensor is that the text decoder has no place for."""
    if name.removeprefix(prefix).startswith(tuple(_next_layers(decoder, naming))):
        return HEADS
    return next((what for pattern, what in naming.towers.items() if re.fullmatch(pattern, name)), None)


def _counted(names: Sequence[str], what: str) -> str:
    shown = ", ".join(names[:MAX_NAMES_SHOWN])
    more = len(names) - MAX_NAMES_SHOWN
    plural = what if len(names) == 1 else what + "s"
    return f"{len(names)} {plural} ({shown}{f' and {more} more' if more > 0 else ''})"


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape) or "a scalar"
