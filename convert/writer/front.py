"""How much of a file is final from its start, while slices of it are written in any order."""

from collections.abc import Callable, Sequence

from convert.writer.layout import Slot


class Front:
    """Counts the rows of each slot that are still to be written; used under its caller's lock."""

    def __init__(self, slots: Sequence[Slot], size_bytes: int, reached: Callable[[int], None]) -> None:
        self._left_rows = [0] * len(slots)
        self._planes = sorted(
            (offset, number) for number, slot in enumerate(slots) for offset in slot.offsets_bytes
        )
        self._at = 0  # the first plane that is not final
        self._size_bytes = size_bytes
        self._reached = reached

    def expect(self, slot: int, rows: int) -> None:
        """Count rows of the source that will go into a slot."""
        self._left_rows[slot] += rows

    def wrote(self, slot: int, rows: int) -> None:
        """Take off what is written, and say how far the file is final if that is farther than before."""
        self._left_rows[slot] -= rows
        if self._left_rows[slot] or self._at == len(self._planes) or self._planes[self._at][1] != slot:
            return
        while self._at < len(self._planes) and not self._left_rows[self._planes[self._at][1]]:
            self._at += 1
        is_whole = self._at == len(self._planes)
        self._reached(self._size_bytes if is_whole else self._planes[self._at][0])
