"""What every scheme of quantization is: how a config says that weights are stored, and their matrices."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from convert.checkpoint.quantized.granularity import by
from convert.checkpoint.tensor import DAMAGED, TensorInfo
from convert.errors import Failure, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from convert.checkpoint.quantized.matrix import Matrix
    from convert.checkpoint.reader import Checkpoint

# Scales of activations and of the cache of keys and values, for which nothing written here has a place.
_OF_ACTIVATIONS = re.compile(
    r".*[._](activation_scale|(input|output)_(scale|scale_ub|zero_point|global_scale)"
    r"|[qkv]_(scale|zero_point|cache_scale)|kv_(cache_)?scale)"
)
_NO_WEIGHTS = ("weight", "weight_packed", "qweight", "_blocks")
_WIDE = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Scheme(ABC):
    """A way to store matrices with fewer bits."""

    label: str  # in words, as far as the config says it

    @abstractmethod
    def matrices(self, raw: Checkpoint) -> Iterator[Matrix]:
        """Find the quantized matrices among the stored tensors, and check that their parts fit."""

    def is_dropped(self, name: str) -> bool:
        """Check whether a tensor is of no use to weights that are not quantized."""
        return _OF_ACTIVATIONS.fullmatch(name) is not None

    def is_idle(self, raw: Checkpoint, name: str) -> bool:  # noqa: ARG002 - most schemes add nothing
        """Check whether a tensor is one of zeros that the quantizer adds to every matrix."""
        return False


def unread(where: str, what: str) -> Failure:
    """Refuse a variant of a scheme."""
    return Failure(f"{where}: the weights are {what}, which is not read", "convert from the original weights")


def part(raw: Checkpoint, name: str, whose: TensorInfo) -> TensorInfo:
    """Find a tensor that goes with another, or refuse the checkpoint."""
    if name not in raw.tensors:
        what = f"{whose.file.name}: {shown(whose.name)} has no {shown(name)}"
        raise Failure(what, "the checkpoint is incomplete: download it again, or save the model again")
    return raw.tensors[name]


def require_all_widened(passed: Mapping[str, TensorInfo]) -> None:
    """Refuse codes for which no scales were found: as numbers they would be nonsense."""
    for name, info in passed.items():
        if info.dtype not in _WIDE and name.endswith(_NO_WEIGHTS):
            what = f"{info.file.name}: {shown(name)} is stored as {info.dtype}, and no scale goes with it"
            raise Failure(what, "the checkpoint is incomplete: download it again, or save the model again")


def describe(
    parts: Sequence[TensorInfo], name: str, shape: tuple[int, ...], stored_as: str
) -> tuple[TensorInfo, tuple[str, ...]]:
    """Describe a matrix as it is once it is widened, and name its parts; the codes are the first.

    Its type is set by the checkpoint.
    """
    size_bytes = sum(each.size_bytes for each in parts)
    whole = replace(parts[0], name=name, shape=shape, size_bytes=size_bytes, stored_as=stored_as)
    return replace(whole, strides_bytes=None), tuple(each.name for each in parts)


def matrix_shape(info: TensorInfo) -> tuple[int | None, tuple[int, int]]:
    """Return how many matrices a stack has, None for one that is alone, and the shape of each."""
    if len(info.shape) not in (2, 3) or 0 in info.shape:
        raise Failure(f"{info.file.name}: {shown(info.name)} is {by(info.shape)}, and no matrix", DAMAGED)
    return (info.shape[0] if len(info.shape) == 3 else None), (info.shape[-2], info.shape[-1])
