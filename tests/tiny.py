"""Seeded random models of every architecture, made in a moment, shaped to exercise the rules."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.formats import find_format
from convert.formats.hf.tensors import CONVOLUTIONS
from convert.model.binding import places
from convert.model.config import Config
from convert.model.decoder import Role
from convert.model.families import describe, family, supported
from convert.writer.codecs.plain import to_bf16

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from numpy.typing import NDArray

    from convert.model.decoder import Decoder, Origin, Ref

VOCAB_SIZE = 512
# Learned factors, which are about one.
FACTORS = {Role.LAYER_SCALE, Role.EXPERT_SHARES}

# Every family's own example and its variants: a new file is tested by all that goes through these.
CONFIGS: dict[str, dict[str, Any]] = {
    name: {**family(model_type).example, **changes, "model_type": model_type}
    for model_type in supported()
    for name, changes in (
        (model_type, {}),
        *((f"{model_type}-{variant}", more) for variant, more in family(model_type).variants.items()),
    )
}


# Each with the number of another naming that its checkpoints may have.
SPELLINGS = [
    (model_type, number)
    for model_type in supported()
    for number in range(1, len(family(model_type).naming.others) + 1)
]


@cache
def described(name: str) -> Decoder:
    """Read one of these configs."""
    return describe(Config(CONFIGS[name]))[1]


@cache
def rendered(format_name: str) -> tuple[str, ...]:
    """List those that a format can express."""
    format_ = find_format(format_name)
    found = []
    for name in CONFIGS:
        decoder = described(name)
        features = format_.renders(decoder)
        if features is not None and decoder.features <= features and not format_.limits(decoder):
            found.append(name)
    return tuple(found)


def features(name: str) -> AbstractSet[object]:
    """List what a config asks of a format."""
    return described(name).features


def roles(name: str) -> AbstractSet[object]:
    """List the kinds of tensors that a config has."""
    return {(ref.role, ref.part) for ref, _ in described(name).shapes()}


def sample(
    names: Iterable[str], quick: Iterable[str] = (), by: Callable[[str], AbstractSet[object]] = features
) -> set[str]:
    """Choose a few that have everything among them."""
    had = {name: by(name) for name in names}
    chosen = set(quick) & had.keys()
    covered = {each for name in chosen for each in had[name]}
    while left := [name for name in had if had[name] - covered]:
        best = max(left, key=lambda name: len(had[name] - covered))
        chosen.add(best)
        covered |= had[best]
    return chosen


def cases(
    names: Iterable[str],
    quick: Iterable[str] = (),
    *,
    by: Callable[[str], AbstractSet[object]] = features,
    is_costly: bool = False,
) -> list[Any]:
    """Make parameters of them: a sample is quick, the other families slow, and all variants of the last tier.

    Of a costly test the last tier has the other families too.
    """
    listed = tuple(names)
    chosen = sample(listed, quick, by)
    return [pytest.param(name, marks=_tier(name, chosen, is_costly=is_costly)) for name in listed]


def cases_of(names: Iterable[str], quick: Iterable[str] = (), slow: Iterable[str] | None = None) -> list[Any]:
    """Make parameters of families, variants and other cases, which are slow."""
    found = []
    for name in names:
        if name in quick:
            marks: Any = ()
        elif name not in CONFIGS or (slow is not None and name in slow):
            marks = pytest.mark.slow
        else:
            marks = _tier(name, quick, is_costly=slow is not None)
        found.append(pytest.param(name, marks=marks))
    return found


def _tier(name: str, chosen: Iterable[str], *, is_costly: bool) -> Any:
    if name in chosen:
        return ()
    is_family = CONFIGS.get(name, {}).get("model_type") == name
    return pytest.mark.slow if is_family and not is_costly else (pytest.mark.slow, pytest.mark.exhaustive)


@dataclass(frozen=True)
class Recipe:
    """What to make: a family or variant, what its config says differently, the dtype, the outer module."""

    model_type: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "BF16"
    shards: int = 1
    has_prefix: bool = True
    spelling: int = 0  # of the family's namings, its own being the first
    seed: int = 0
    spread: float = 0.15


def origins_of(recipe: Recipe) -> tuple[Decoder, dict[Ref, Origin], Mapping[tuple[str, int | None], int]]:
    """Describe a model, place its tensors, and count the rows of each matrix."""
    family, decoder = describe(Config({**CONFIGS[recipe.model_type], **recipe.changes}))
    own = family.naming.of(decoder)
    naming = (own, *own.others)[recipe.spelling]
    return decoder, *places(decoder, naming, naming.prefix if recipe.has_prefix else "")


def rows_of(
    made: Mapping[str, NDArray[np.float32]], origin: Origin, count: int
) -> tuple[NDArray[np.float32], list[int]]:
    """Find the matrix, as (rows, columns), and the rows of it that are a canonical tensor's."""
    tensor = made[origin.name] if origin.index is None else made[origin.name][origin.index]
    return tensor.T if origin.is_transposed else tensor, [origin.row(row) for row in range(count)]


def shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """List the source's tensors, under the source's names and in its own shapes."""
    decoder, origins, taken = origins_of(recipe)
    stacks = Counter(name for name, index in taken if index is not None)
    found: dict[str, tuple[int, ...]] = {}
    for ref, shape in decoder.shapes():
        origin = origins[ref]
        middle = (1,) if ref.role in CONVOLUTIONS and ref.part == "weight" else ()
        whole = (taken[origin.name, origin.index], *middle, *shape[1:])
        stack = (stacks[origin.name],) if origin.index is not None else ()
        found.setdefault(origin.name, (*stack, *(whole[::-1] if origin.is_transposed else whole)))
    return found


def tensors(recipe: Recipe) -> dict[str, NDArray[np.float32]]:
    """Make the source's tensors."""
    decoder, origins, _ = origins_of(recipe)
    random = np.random.default_rng(recipe.seed)
    made = {name: np.empty(shape, np.float32) for name, shape in shapes(recipe).items()}
    for ref, shape in decoder.shapes():
        spread = recipe.spread * (1 if len(shape) > 1 else 2)
        if ref.role in CONVOLUTIONS:  # which add up a few numbers, where a matrix adds up a row
            spread = 0.5
        is_norm = decoder.norm_of(ref) is not None and ref.part == "weight" and not decoder.has_offset(ref)
        center = float(is_norm or ref.role in FACTORS)
        values = random.standard_normal(shape, np.float32)
        values *= np.float32(spread)
        values += np.float32(center)
        values *= np.float32(_size(decoder, ref))
        if ref.role in CONVOLUTIONS and ref.part == "weight":
            values = values[:, None]
        matrix, rows = rows_of(made, origins[ref], shape[0])
        matrix[rows] = values
    return made


def _size(decoder: Decoder, ref: Ref) -> float:
    """Keep the products of normalized queries and keys at the size that a head's are scaled to.

    Without it small differences grow a thousandfold in each layer that does not scale them.
    """
    attention = decoder.layers[ref.layer].attention if ref.layer is not None else None
    if attention is None or attention.scale is None or ref.role is not Role.ATTN_Q_NORM:
        return 1.0
    return 1.0 if decoder.has_offset(ref) else 1 / (attention.scale * math.sqrt(attention.head_size))


def make(folder: Path, recipe: Recipe) -> Path:
    """Write a checkpoint: config.json and safetensors, without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**CONFIGS[recipe.model_type], **recipe.changes}
    (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
    made = tensors(recipe)
    names = list(made)
    if recipe.shards == 1:
        write_safetensors(folder / "model.safetensors", made, recipe.dtype)
        return folder
    index: dict[str, str] = {}
    for number in range(recipe.shards):
        name = f"model-{number + 1:05}-of-{recipe.shards:05}.safetensors"
        part = {key: made[key] for key in names[number :: recipe.shards]}
        write_safetensors(folder / name, part, recipe.dtype)
        index |= dict.fromkeys(part, name)
    total = sum((folder / name).stat().st_size for name in set(index.values()))
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index}), "utf-8"
    )
    return folder


def make_blank(folder: Path, recipe: Recipe) -> Path:
    """Write a checkpoint of zeros, which takes no time, where only names and shapes are looked at."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**CONFIGS[recipe.model_type], **recipe.changes}
    (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
    text, size_bytes = _header(shapes(recipe), recipe.dtype)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(text)
        file.truncate(len(text) + size_bytes)
    return folder


def write_safetensors(path: Path, made: Mapping[str, NDArray[np.float32]], dtype: str) -> None:
    """Write tensors as the safetensors format has them, without its library and so without torch."""
    text, _ = _header({name: values.shape for name, values in made.items()}, dtype)
    with path.open("wb") as file:
        file.write(text)
        for values in made.values():
            file.write(np.ascontiguousarray(stored(values, dtype)).data)


def _header(found: Mapping[str, tuple[int, ...]], dtype: str) -> tuple[bytes, int]:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in found.items():
        end = start + math.prod(shape) * (4 if dtype == "F32" else 2)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text, start


def stored(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Round to what the file holds."""
    if dtype == "BF16":
        return to_bf16(values)
    return values.astype({"F32": np.float32, "F16": np.float16}[dtype])
