"""What merging an adapter costs, for the plan."""

from convert.checkpoint.adapter.file import Adapter
from convert.checkpoint.adapter.matrix import Recent

# The base's rows once more, and in double precision where lengths are computed.
SLICE_BYTES_PER_WEIGHT = 12


def terms(adapter: Adapter) -> float:
    """Count the terms of all its products."""
    return sum(pair.a.shape[0] * pair.a.shape[1] * pair.b.shape[0] for pair in adapter.pairs)


def memory_bytes(adapter: Adapter, *, slices: int, slice_weights: int) -> int:
    """Bound what merging holds, with so many slices in work."""
    sizes = [info.shape[0] * info.shape[1] for pair in adapter.pairs for info in (pair.a, pair.b)]
    kept = Recent.COUNT * 4 * max(sizes, default=0)
    return kept + slices * slice_weights * SLICE_BYTES_PER_WEIGHT
