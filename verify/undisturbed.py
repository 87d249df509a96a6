"""Measurements of time, taken again where something was stopped in their middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from convert.child import ChildFailure, Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

TRIES = 5


def undisturbed(take: Callable[[int], tuple[T, float]]) -> T:
    """Return the first of what `take` finds in a try in which nothing was stopped.

    It has the number of the try, for a question that no cache has seen, and returns how long something was
    stopped meanwhile: a laptop that sleeps, Ctrl-Z, a container that is paused. Clocks go on, models do not.
    """
    for number in range(TRIES):
        found, stopped_s = take(number)
        if not stopped_s:
            return found
    why = f"each of {TRIES} measurements was stopped in its middle, as on a machine that sleeps"
    raise ChildFailure(Fault(FaultKind.REFUSED, why))
