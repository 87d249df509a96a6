"""An embedding and a head that are one tensor, until an adapter trains either apart from the other."""

from dataclasses import dataclass

from convert.checkpoint.adapter.file import ANOTHER, Adapter, misfit
from convert.checkpoint.adapter.names import Names
from convert.checkpoint.reader import Checkpoint
from convert.checkpoint.tensor import TensorInfo

_COMPARED_WEIGHTS = 1 << 20


@dataclass(frozen=True)
class Tied:
    """The tensor of a tied embedding, and how its head would be called."""

    embed: str
    head: str


def is_untying(adapter: Adapter, tied: Tied, names: Names) -> bool:
    """Check whether the embedding or the head was trained apart from the other."""
    if adapter.config.is_tying:
        return False
    trained = {names.core(f"{pair.module}.weight") for pair in adapter.pairs}
    trained |= {names.core(name) for name in adapter.whole}
    return bool(trained & {names.core(tied.embed), names.core(tied.head)})


def copies_of_tied(adapter: Adapter, tied: Tied, names: Names) -> frozenset[str]:
    """Find what an adapter has for the head of a pair that stays tied: the embedding's once more."""
    head, embed = names.core(tied.head), names.core(tied.embed)
    whole = {names.core(name): info for name, info in adapter.whole.items()}
    pairs = {names.core(f"{pair.module}.weight"): pair for pair in adapter.pairs}
    couples = [(whole.get(head), whole.get(embed), False)]
    if pair := pairs.get(head):
        # The head's matrices are those of the embedding, turned and in the other order.
        twins = pairs.get(embed)
        couples += [(pair.a, twins.b if twins else None, True), (pair.b, twins.a if twins else None, True)]
    found = [(info, twin, is_turned) for info, twin, is_turned in couples if info is not None]
    for info, twin, is_turned in found:
        if twin is None or not _is_same(adapter.weights, info, twin, is_turned=is_turned):
            raise misfit(info, f"not what {tied.embed} gets, which stays tied to it", ANOTHER)
    return frozenset(info.name for info, _, _ in found)


def _is_same(weights: Checkpoint, one: TensorInfo, other: TensorInfo, *, is_turned: bool) -> bool:
    if one.shape != (other.shape[::-1] if is_turned else other.shape):
        return False
    step = max(1, _COMPARED_WEIGHTS // one.shape[-1])
    for row in range(0, one.shape[0], step):
        stop = min(one.shape[0], row + step)
        twin = weights.rows(other.name, row, stop, is_transposed=is_turned)
        if not (weights.rows(one.name, row, stop) == twin).all():
            return False
    return True
