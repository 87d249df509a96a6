"""Which matrices are quantized, which stay as they are, and which are computed as one where they run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.formats.hf.tensors import Stored, named_tensors, stored_tensors
from convert.model.decoder import Decoder, Ref, Role
from convert.model.families import family

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from convert.formats.compressed_tensors.preset import Preset

# The matrices that tokens are multiplied by, but for those that are small, and choose or weigh what comes
# after them: routers, the shares of the delta rule, the narrow rows of experts.
QUANTIZED = frozenset({
    Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V, Role.ATTN_OUT,
    Role.LATENT_Q_DOWN, Role.LATENT_Q_UP, Role.LATENT_KV_DOWN, Role.LATENT_KV_UP,
    Role.DELTA_Q, Role.DELTA_K, Role.DELTA_V, Role.DELTA_GATE, Role.DELTA_OUT,
    Role.STATE_IN, Role.STATE_OUT, Role.CONV_IN, Role.CONV_OUT,
    Role.MLP_GATE, Role.MLP_UP, Role.MLP_DOWN,
    Role.EXPERT_GATE, Role.EXPERT_UP, Role.EXPERT_DOWN,
    Role.SHARED_GATE, Role.SHARED_UP, Role.SHARED_DOWN,
    Role.LAYER_INPUT_GATE, Role.LAYER_INPUT_PROJECTION,
})  # fmt: skip
# What vLLM multiplies by at once, whatever tensors it is in.
JOINED: tuple[frozenset[Role], ...] = (
    frozenset({Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V}),
    frozenset({Role.LATENT_Q_DOWN, Role.LATENT_KV_DOWN}),
    frozenset({Role.DELTA_Q, Role.DELTA_K, Role.DELTA_V, Role.DELTA_GATE}),
    frozenset({Role.MLP_GATE, Role.MLP_UP}),
    frozenset({Role.EXPERT_GATE, Role.EXPERT_UP}),
    frozenset({Role.SHARED_GATE, Role.SHARED_UP}),
)
# What `model_free_ptq` leaves alone by itself.
NORM = "norm"


@dataclass(frozen=True)
class Choice:
    """The tensors that are quantized, in groups that share numbers, and the modules that are not."""

    groups: Mapping[str, int]  # tensor -> the number of its group
    ignored: tuple[str, ...]  # modules with weights that stay as they are
    kept: tuple[str, ...]  # of these, matrices that the scheme's blocks do not fit


def choose(decoder: Decoder, preset: Preset) -> Choice:
    """Choose what is quantized."""
    stored = stored_tensors(decoder)
    wanted: dict[tuple[object, ...], list[Stored]] = defaultdict(list)
    for each in stored:
        if is_quantized(each):
            wanted[_group(each.pieces[0].ref)].append(each)
    parted = [group for group in wanted.values() if not _fits(preset, group)]
    kept = {each.name for group in parted for each in group}
    groups = {
        each.name: number
        for number, group in enumerate(wanted.values())
        for each in group
        if each.name not in kept
    }
    ignored = dict.fromkeys(
        each.name.removesuffix(".weight")
        for each in stored
        if each.name.endswith(".weight") and each.name not in groups
    )
    if decoder.is_tied:
        ignored.setdefault("lm_head")
    names = tuple(name for name in ignored if not name.endswith(NORM))
    return Choice(groups, names, tuple(each.name for each in stored if each.name in kept))


def is_quantized(each: Stored) -> bool:
    """Tell whether a tensor is a matrix that is quantized where blocks fit it."""
    ref = each.pieces[0].ref
    is_matrix = len(each.shape) == 2 and each.name.endswith(".weight")
    return is_matrix and ref.layer is not None and ref.role in QUANTIZED


def limits(decoder: Decoder) -> Iterator[str]:
    """Say, in words, what no runtime would read of a model."""
    naming = family(decoder.family).naming.of(decoder)
    weights = (
        (ref, ref, shape) for ref, shape in decoder.shapes() if ref.role in QUANTIZED and ref.part == "weight"
    )
    for each in named_tensors(naming, weights):
        if len(each.shape) == 3:
            yield "experts of a layer that are one tensor"
        elif each.is_turned:
            yield "transposed matrices"


def _group(ref: Ref) -> tuple[object, ...]:
    joined = next((roles for roles in JOINED if ref.role in roles), ref.role)
    return ref.layer, joined, ref.expert


def _fits(preset: Preset, group: list[Stored]) -> bool:
    """Tell whether blocks end where matrices do that are computed as one."""
    parts = [piece for each in group for piece in each.pieces]
    return len(parts) == 1 or not any(piece.rows % preset.rows for piece in parts)
