"""A file planned to the byte before anything is read."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from convert.model.arrange import Arrange
from convert.model.decoder import Decoder
from convert.model.tensor import Origin, Ref, Role
from convert.writer.codecs import Codec, plane_rows


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a canonical tensor on their way into a slot, rearranged in whole groups where need be."""

    ref: Ref
    rows: int
    columns: int
    arrange: Arrange | None = None
    group_rows: int = 1
    first_row: int = 0  # in the canonical tensor
    codec: Codec | None = None  # where it is not the slot's
    origin: Origin | None = None  # where it is not that of the canonical tensor
    # Pieces of several lanes are dealt out by turns: row by row, this one's are every so-many-th.
    lane: int = 0
    lanes: int = 1
    # Rows become columns: each group is written as so many rows of `group_rows` columns.
    is_turned: bool = False

    @property
    def out_group_rows(self) -> int:
        return self.columns if self.is_turned else self.group_rows

    @property
    def out_rows(self) -> int:
        return self.rows // self.group_rows * self.out_group_rows

    @property
    def out_columns(self) -> int:
        return self.group_rows if self.is_turned else self.columns


def by_turns(
    pieces: Iterable[Piece], decoder: Decoder, runs: Mapping[Role, Callable[[Decoder, int], int]]
) -> tuple[Piece, ...]:
    """Deal out the rows of roles that share a tensor by turns: so many of each at a time."""
    found: list[Piece] = []
    for _, group in itertools.groupby(pieces, lambda piece: piece.ref.expert):
        parts = list(group)
        if not all(piece.ref.role in runs for piece in parts):
            found += parts
            continue
        counts = [runs[piece.ref.role](decoder, piece.ref.layer or 0) for piece in parts]
        for turn in range(parts[0].rows // counts[0]):
            found += (
                replace(piece, first_row=piece.first_row + turn * count, rows=count)
                for piece, count in zip(parts, counts, strict=True)
            )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor of the file: what comes in, one piece's rows after the other, how, and its offsets."""

    name: str
    pieces: tuple[Piece, ...]
    codec: Codec
    offsets_bytes: tuple[int, ...]  # one a plane
    # Stored (in, out): the codec gives each weight separate bytes, in one plane, or says in `turned_bytes`
    # how much of a row stays together in each plane.
    is_turned: bool = False

    @property
    def rows(self) -> int:
        return sum(piece.out_rows for piece in self.pieces)

    @property
    def columns(self) -> int:
        return self.pieces[0].out_columns

    @property
    def encoding(self) -> str:
        """Name how the tensor is stored, and rounded."""
        return (self.pieces[0].codec or self.codec).name

    @property
    def sizes_bytes(self) -> tuple[int, ...]:
        widths = self.codec.row_bytes(self.columns)
        shared = plane_rows(self.codec, len(widths))
        return tuple(-(-self.rows // count) * width for count, width in zip(shared, widths, strict=True))


@dataclass(frozen=True, slots=True)
class Computed:
    """Bytes of a known number that are made when they are written."""

    size_bytes: int
    make: Callable[[], bytes]

    def __len__(self) -> int:
        return self.size_bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """One file: its name in the artifact, its length, what is known beforehand, and the slots to fill."""

    path: str
    size_bytes: int
    fixed: tuple[tuple[int, bytes | Computed], ...]  # (offset, bytes): headers, tables
    slots: tuple[Slot, ...]


def weights(layouts: Iterable[Layout]) -> Iterator[tuple[Codec, int]]:
    """List how many weights go to which codec."""
    for layout in layouts:
        for slot in layout.slots:
            for piece in slot.pieces:
                yield piece.codec or slot.codec, piece.out_rows * slot.columns


def widest(layouts: Iterable[Layout]) -> int:
    """Count the weights of the largest group of rows that are never parted."""
    slots = (slot for layout in layouts for slot in layout.slots)
    return max((_together(slot) for slot in slots), default=0)


def _together(slot: Slot) -> int:
    shared = plane_rows(slot.codec, len(slot.codec.row_bytes(slot.columns)))
    return min(slot.rows, max(shared)) * slot.columns
