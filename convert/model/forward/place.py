"""What a part of a layer is given: where it is, how it reads its weights, and who watches."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convert.model.decoder import Decoder, Ref, Role

Rows: TypeAlias = NDArray[np.float32]
# Called with the matrices that are about to be multiplied with the same (tokens, columns).
Observe: TypeAlias = Callable[[tuple[Ref, ...], Rows], None]


class Reader(Protocol):
    """A model that multiplies and normalizes by its tensors."""

    @property
    def decoder(self) -> Decoder:
        """Give the description."""

    @property
    def pool(self) -> Executor:
        """Give the threads."""

    def linear(self, ref: Ref, rows: Rows) -> Rows:
        """Multiply (tokens, in) by a matrix of (out, in), and add its bias where it has one."""

    def norm(self, ref: Ref, rows: Rows) -> Rows:
        """Normalize the last axis."""

    def vector(self, ref: Ref) -> Rows:
        """Read a row of numbers."""

    def matrix(self, ref: Ref) -> Rows:
        """Read a small matrix whole."""

    def has(self, ref: Ref) -> bool:
        """Check whether the model has a tensor."""


@dataclass(frozen=True, slots=True)
class Place:
    """A layer at work on some texts of one length."""

    model: Reader
    layer: int
    texts_positions: tuple[int, int]
    observe: Observe

    def ref(self, role: Role, expert: int | None = None) -> Ref:
        """Name a tensor of this layer."""
        return Ref(role, self.layer, expert=expert)

    def multiply(self, roles: tuple[Role, ...], rows: Rows) -> list[Rows]:
        """Multiply the same rows by several matrices, and let them be seen."""
        refs = tuple(self.ref(role) for role in roles)
        self.observe(refs, rows)
        return [self.model.linear(ref, rows) for ref in refs]
