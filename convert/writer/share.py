"""One conversion by several machines: which part of the work, and of the files, is whose."""

from typing import NamedTuple


class Part(NamedTuple):
    """A share of the work: the slices in one stretch of the source, of so many of about equal length."""

    number: int  # from 1
    of: int

    def __str__(self) -> str:
        """Write it as a person does: 2/8."""
        return f"{self.number}/{self.of}"

    def number_at(self, at_bytes: int, total_bytes: int) -> int:
        """Return the part of a slice that begins there in the source."""
        return min(self.of, at_bytes * self.of // max(1, total_bytes) + 1)


WHOLE = Part(1, 1)


class Share:
    """The stretches of one file that a part makes."""

    def __init__(self, size_bytes: int, stretch_bytes: int, part: Part) -> None:
        self._stretch_bytes, self._part = stretch_bytes, part
        # What no slice goes into, headers and gaps, is the first part's.
        self._makers = [0] * -(-size_bytes // stretch_bytes)

    def claim(self, start: int, stop: int, number: int) -> None:
        """Give what nobody has yet of these bytes to a part."""
        for at in self._touched(start, stop):
            self._makers[at] = self._makers[at] or number

    def has(self, at: int, size_bytes: int) -> bool:
        """Say whether some of these bytes are in a stretch of this part."""
        return any(map(self._is_mine, self._touched(at, at + size_bytes)))

    @property
    def mine(self) -> tuple[int, ...]:
        """Return the stretches of this part, numbered from 0."""
        return tuple(filter(self._is_mine, range(len(self._makers))))

    def _touched(self, start: int, stop: int) -> range:
        return range(start // self._stretch_bytes, min(-(-stop // self._stretch_bytes), len(self._makers)))

    def _is_mine(self, at: int) -> bool:
        return (self._makers[at] or 1) == self._part.number
