"""What a rotation of the hidden states changes: what adds to them, what reads them, and the norms between."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convert.checkpoint.rotated import Change, Gain
from convert.model.decoder import Ref, Role
from convert.model.feature import Feature
from convert.model.folding import OF_MIXERS, OF_MLPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from convert.checkpoint.rotated import Place
    from convert.model.decoder import Decoder, Origin

# Tables whose rows are added to the hidden states, and matrices that write into them.
TABLES = frozenset({Role.EMBED, Role.POSITION})
WRITERS = frozenset({
    Role.ATTN_OUT, Role.DELTA_OUT, Role.STATE_OUT, Role.CONV_OUT, Role.MLP_DOWN, Role.EXPERT_DOWN,
    Role.SHARED_DOWN,
})  # fmt: skip
READERS = OF_MIXERS | OF_MLPS | {Role.HEAD}
NORMS = frozenset({Role.ATTN_NORM, Role.MLP_NORM, Role.FINAL_NORM})
# Where the weights of a norm meet the hidden states with no matrix after them, or something else reads these.
REFUSED = frozenset({
    Feature.POST_NORM, Feature.EMBEDDING_NORM, Feature.ROUTER_NORM, Feature.LATENT_EXPERTS,
    Feature.DENSE_AND_EXPERTS, Feature.LAYER_INPUTS,
})  # fmt: skip


def changes(decoder: Decoder, origins: Mapping[Ref, Origin]) -> dict[Place, Change]:
    """Say what becomes of each tensor of the source that has to do with the hidden states."""
    found: dict[Place, Change] = {}
    for ref, change in _changes(decoder, lambda ref: origins[ref].is_transposed):
        origin, norm = origins[ref], _gain(decoder, ref)
        gain = Gain(origins[norm].name, decoder.has_offset(norm)) if norm else None
        made = replace(change, gain=gain)
        if found.setdefault((origin.name, origin.index), made) != made:
            raise ValueError(f"{origin.name}: {ref} is rotated in another way than what it is joined with")
    return found


def spilled_count(decoder: Decoder, is_transposed: Callable[[Ref], bool]) -> int:
    """Count the weights of which a rotated copy is made."""
    spilled = {ref for ref, change in _changes(decoder, is_transposed) if change.is_spilled}
    return sum(shape[0] * shape[1] for ref, shape in decoder.shapes() if ref in spilled)


def _changes(decoder: Decoder, is_transposed: Callable[[Ref], bool]) -> Iterator[tuple[Ref, Change]]:
    for ref, _ in decoder.shapes():
        is_turned = is_transposed(ref)
        if ref.role in NORMS:
            yield ref, Change(is_gain=ref.part == "weight", is_divided=ref.part == "bias")
        elif ref.role in WRITERS:
            is_matrix = ref.part == "weight"
            yield ref, Change(int(is_turned and is_matrix), is_spilled=is_matrix)
        elif (ref.role in READERS and ref.part == "weight") or ref.role in TABLES:
            yield ref, Change(int(not is_turned), is_spilled=is_turned)


def _gain(decoder: Decoder, ref: Ref) -> Ref | None:
    """Find the weights of the norm that a tensor belongs to, or whose result it reads."""
    norm = ref.role if ref.role in NORMS else _read(decoder, ref)
    if norm is None:
        return None
    found = Ref(norm, None if norm is Role.FINAL_NORM else ref.layer)
    kind = decoder.norm_of(found)
    return found if kind is not None and kind.has_weight else None


def _read(decoder: Decoder, ref: Ref) -> Role | None:
    """Say which norm's result a matrix reads."""
    if ref.role is Role.HEAD:
        return Role.FINAL_NORM
    if ref.layer is None or ref.role not in OF_MIXERS | OF_MLPS:
        return None
    layer = decoder.layers[ref.layer]
    is_shared = layer.is_parallel and layer.mlp_norm is None  # the MLP reads what the mixer does
    return Role.ATTN_NORM if ref.role in OF_MIXERS or is_shared else Role.MLP_NORM
