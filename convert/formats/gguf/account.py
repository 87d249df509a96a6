"""What a manifest says of an artifact: how it departs from its source and its name, and how it was made."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convert.deviation import AS_SOURCE, Deviation
from convert.formats.gguf import tensors
from convert.formats.gguf.budgeted import weight_count
from convert.formats.gguf.files import is_rounded
from convert.formats.gguf.header import tensor_bytes
from convert.model.feature import Feature
from convert.writer.codecs.ggml import BLOCK_TYPES
from convert.writer.trial import SAMPLE_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from convert.formats.gguf.choosing import Choice
    from convert.formats.gguf.importance import Importance
    from convert.formats.gguf.shared import Shared
    from convert.formats.gguf.tensors import FileTensor
    from convert.model.decoder import Decoder

MAX_SHOWN = 6  # experts in a message


def deviations_of(
    choice: Choice, listed: Sequence[FileTensor], prepared: Shared, *, is_budget: bool
) -> tuple[Deviation, ...]:
    """Name every tensor that is coarser or finer than the quant's name says."""
    types = choice.types
    columns = {tensor.name: tensor.shape[-1] for tensor in listed}
    fallen = [
        Deviation(name, wanted, types[name], f"{columns[name]} columns are no whole number of blocks")
        for name, wanted in choice.wanted.items()
    ]
    missing = [
        Deviation(name, "with the importance of its columns", "without", "the matrix lacks this tensor")
        for name in (prepared.importance.missing if prepared.importance else ())
        if types.get(name) in BLOCK_TYPES
    ]
    unseen = [
        Deviation(
            name,
            "with the importance of its columns",
            f"without, in {len(experts)} experts",
            f"no text reached experts {_named(experts)}",
        )
        for name, experts in (prepared.importance.unseen if prepared.importance else {}).items()
        if types.get(name) in BLOCK_TYPES
    ]
    said = [
        Deviation("tokenizer", AS_SOURCE, "llama.cpp's reading", text.removeprefix("tokenizer: "))
        for text in prepared.deviations
    ]
    learned = (
        Deviation(
            "imatrix",
            "the same bits on every CPU",
            "the same bits on CPUs of one kind",
            "it was learned here, and matrix products round as a CPU's own kernels do",
        ),
    )
    chosen = (
        Deviation(
            "types of tensors",
            "a mixture of llama.cpp's",
            "chosen under the budget",
            "each tensor's error was measured on a sample of its rows",
        ),
    )
    return (
        *(chosen if is_budget else ()),
        *fallen,
        *missing,
        *unseen,
        *said,
        *(learned if _learned(prepared) else ()),
    )


def _named(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:MAX_SHOWN]))
    return shown if len(numbers) <= MAX_SHOWN else f"{shown} and {len(numbers) - MAX_SHOWN} more"


def lost_by(decoder: Decoder) -> tuple[Deviation, ...]:
    """Record what llama.cpp's graph leaves out."""
    lost = tensors.graph_of(decoder).lost
    found = [
        Deviation(str(feature), AS_SOURCE, "llama.cpp's reading", why)
        for feature, why in lost.items()
        if feature is not Feature.WINDOW and feature in decoder.features
    ]
    why = lost.get(Feature.WINDOW)
    window = min((each.window for each in decoder.attentions if each.window is not None), default=None)
    if why is not None and window is not None and window < decoder.context_length:
        found.append(Deviation("attention", f"over the last {window} tokens", "over all tokens", why))
    return tuple(found)


def _learned(prepared: Shared) -> Mapping[str, str | int]:
    """Say which windows the importance was learned from, if it was learned here."""
    return prepared.importance.learned if prepared.importance else {}


def learned_files(importance: Importance | None) -> dict[str, bytes]:
    """Ship a matrix that was learned here, so that others can quantize by it."""
    if importance is None or not importance.learned:
        return {}
    from convert.formats.gguf.importance import pack_importance  # noqa: PLC0415 - brings a forward pass

    return {importance.file_name: pack_importance(importance)}


def with_all_missing(prepared: Shared, decoder: Decoder, listed: Iterable[FileTensor]) -> Shared:
    """Add layers that guess further tokens to what an importance matrix lacks: no run goes through them."""
    if (matrix := prepared.importance) is None:
        return prepared
    further = {number for number, layer in enumerate(decoder.layers) if layer.next_norm}
    lacking = (each.name for each in listed if each.pieces and each.pieces[0].ref.layer in further)
    missing = dict.fromkeys((*matrix.missing, *(name for name in lacking if name not in matrix.values)))
    return replace(prepared, importance=replace(matrix, missing=tuple(missing)))


def rounding_of(choice: Choice, listed: Sequence[FileTensor], prepared: Shared) -> Iterator[Deviation]:
    """Say what learning to round could not do, and which tensors llama.cpp's own way was left for."""
    if prepared.asked is None:
        return
    yield from prepared.asked.deviations
    left = Counter(
        choice.types[tensor.name]
        for tensor in listed
        if choice.types[tensor.name] in BLOCK_TYPES and not _is_rounded(choice, tensor)
    )
    for name, count in left.items():
        what = f"{count} tensor{'' if count == 1 else 's'} of {name}"
        yield Deviation(
            what, "rounded by the text", "as llama.cpp rounds", "no text is learned from for them"
        )


def _is_rounded(choice: Choice, tensor: FileTensor) -> bool:
    return is_rounded(choice.types[tensor.name], tensor, is_scaled=tensor.name in choice.scaled)


def estimates_of(prepared: Shared) -> dict[str, Any]:
    """Plan what is yet to be learned: to round, or for an importance matrix."""
    if prepared.asked:  # which learns the importance along with it
        return prepared.asked.estimates
    return {} if prepared.importance else dict(prepared.learning)


def notes_of(
    prepared: Shared, choice: Choice, listed: Sequence[FileTensor], *, is_budget: bool
) -> dict[str, Any]:
    """Say what the artifact was learned from, and how its types were chosen."""
    notes: dict[str, Any] = dict(prepared.asked.notes) if prepared.asked else {}
    if learned := _learned(prepared):
        notes["calibration"] = dict(learned)
    if is_budget:
        size_bytes = sum(tensor_bytes(tensor.shape, choice.types[tensor.name]) for tensor in listed)
        notes["budget"] = {
            "bits_per_weight": round(8 * size_bytes / weight_count(listed), 3),
            "sampled_weights_per_tensor": SAMPLE_WEIGHTS,
            "tensors": dict(Counter(choice.types.values()).most_common()),
        }
    return notes
