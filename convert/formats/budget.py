"""Spend a budget of bytes where it saves most error: one option for each tensor, of those that are offered.

It knows no format: an option is a name, a size and an error, and errors of different tensors are comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from convert.errors import UsageFailure
from convert.size import size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from convert.formats.allowance import Budget

    Menus = dict[str, list["Option"]]

Made = TypeVar("Made")
# Errors are compared to so many digits: sums of another CPU differ in the last ones, and choices should not.
DIGITS = 5


@dataclass(frozen=True, slots=True)
class Option:
    """A way to store a tensor, and what it costs."""

    name: str
    size_bytes: int
    error: float  # what the whole model loses by it, in any unit that all tensors have in common


@dataclass(frozen=True, slots=True)
class _Step:
    """From one option of a tensor to its next larger one that is worth it."""

    tensor: str
    place: int  # on the tensor's hull
    more_bytes: int
    saved: float

    @property
    def rank(self) -> tuple[float, str, int]:
        """Order the steps: the most error saved for a byte comes first."""
        return (-float(f"{self.saved / self.more_bytes:.{DIGITS}g}"), self.tensor, self.place)


def spend(menus: Mapping[str, Sequence[Option]], budget_bytes: int) -> dict[str, Option]:
    """Choose an option for each tensor, such that all fit and the sum of errors is as small as it gets.

    On each tensor's lower convex hull a larger option saves less for each byte, so steps are taken from the
    best one on; those that no longer fit are passed over. That is optimal up to the last step of a tensor.
    """
    hulls = {tensor: _hull(options) for tensor, options in menus.items()}
    chosen = {tensor: hull[0] for tensor, hull in hulls.items()}
    left_bytes = budget_bytes - sum(option.size_bytes for option in chosen.values())
    if left_bytes < 0:
        raise UsageFailure(
            f"{size(budget_bytes)} are too few: the coarsest types take {size(budget_bytes - left_bytes)}",
            "allow more, or take a smaller model",
        )
    stopped: set[str] = set()
    for step in _ranked(hulls):
        if step.tensor in stopped:
            continue
        if step.more_bytes > left_bytes:
            stopped.add(step.tensor)
            continue
        left_bytes -= step.more_bytes
        chosen[step.tensor] = hulls[step.tensor][step.place]
    return chosen


def with_headers(budget: Budget | None, make: Callable[[int], tuple[Made, int]]) -> Made:
    """Make it again, with more bytes kept for headers, until a budget of bytes holds for all of the files.

    `make` is given the bytes to keep, and returns what it made and how long its files are.
    """
    headers_bytes = 0
    while True:
        try:
            made, size_bytes = make(headers_bytes)
        except UsageFailure as fault:
            target = f"{budget.target}: " if budget else ""
            raise UsageFailure(f"{target}{fault.message}", fault.hint) from None
        if budget is None or budget.size_bytes is None or size_bytes <= budget.size_bytes:
            return made
        headers_bytes += size_bytes - budget.size_bytes


def settle(menus: Mapping[str, Sequence[Option]], most: float) -> dict[str, Option]:
    """Choose an option for each tensor, such that the sum of errors is at most so much, for few bytes."""
    hulls = {tensor: _hull(options) for tensor, options in menus.items()}
    chosen = {tensor: hull[0] for tensor, hull in hulls.items()}
    left = sum(option.error for option in chosen.values())
    for step in _ranked(hulls):
        if left <= most:
            break
        left -= step.saved
        chosen[step.tensor] = hulls[step.tensor][step.place]
    return chosen


def _ranked(hulls: Mapping[str, Sequence[Option]]) -> list[_Step]:
    return sorted((step for tensor in hulls for step in _steps(tensor, hulls[tensor])), key=lambda s: s.rank)


def _hull(options: Sequence[Option]) -> list[Option]:
    """Keep the options that some price of a byte would choose, the smallest first."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda each: (each.size_bytes, each.error, each.name)):
        if hull and option.error >= hull[-1].error:
            continue
        while len(hull) > 1 and _slope(hull[-1], option) >= _slope(hull[-2], hull[-1]):
            hull.pop()
        if hull and option.size_bytes == hull[-1].size_bytes:
            continue
        hull.append(option)
    return hull


def _slope(small: Option, large: Option) -> float:
    return (small.error - large.error) / max(1, large.size_bytes - small.size_bytes)


def _steps(tensor: str, hull: Sequence[Option]) -> Iterator[_Step]:
    for place in range(1, len(hull)):
        before, after = hull[place - 1], hull[place]
        yield _Step(tensor, place, after.size_bytes - before.size_bytes, before.error - after.error)
