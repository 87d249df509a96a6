"""The layers by which a model guesses further tokens, in a source that has them."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from convert.checkpoint import TensorInfo
from convert.model.binding import check_shapes, name_of, places
from convert.model.decoder import Decoder
from convert.model.family import Naming
from convert.model.tensor import Origin, Ref, Shaped


def fitting(decoder: Decoder, naming: Naming, names: Collection[str]) -> Decoder:
    """Take the separate tables away from these layers, where a source has none."""
    bare = tuple(replace(layer, next_vocab_size=0) for layer in decoder.next_layers)
    without = replace(decoder, next_layers=bare)
    return without if find_next_layers(without, naming, names) else decoder


def find_next_layers(decoder: Decoder, naming: Naming, names: Collection[str]) -> tuple[Naming, str] | None:
    """Find their naming and outer module, where all of their tensors are there and no others like them."""
    own = naming.of(decoder)
    if len(decoder.next_layers) != 1:  # of several, some tensors would be shared
        return None
    for each in (own, *own.others):
        for outer in ("", "model."):
            if each.next is None:
                continue
            prefix = outer + each.next.prefix
            wanted = {name_of(each.next, ref, prefix) for ref, _ in next_shapes(decoder)}
            if wanted == {name for name in names if name.startswith(prefix)}:
                return each.next, prefix
    return None


def bind_next_layers(
    decoder: Decoder, naming: Naming, tensors: Mapping[str, TensorInfo]
) -> dict[Ref, Origin]:
    """Place their tensors, as those of layers after all others."""
    if (found := find_next_layers(decoder, naming, tensors)) is None:
        return {}
    origins, rows_taken = places(_alone(decoder), *found, next_shapes(decoder))
    check_shapes(next_shapes(decoder), origins, rows_taken, tensors)
    return {after(decoder, ref): origin for ref, origin in origins.items()}


def next_shapes(decoder: Decoder) -> Shaped:
    """List their tensors, as those of layers of a model of their own."""
    return ((ref, shape) for ref, shape in _alone(decoder).shapes() if ref.layer is not None)


def after(decoder: Decoder, ref: Ref) -> Ref:
    """Count a layer of theirs after all others."""
    return replace(ref, layer=decoder.layer_count + (ref.layer or 0))


def _alone(decoder: Decoder) -> Decoder:
    return replace(decoder, layers=decoder.next_layers, next_layers=())
