"""The time that a verification still takes, from what was expected and how it has gone so far."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from convert.size import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verify.report import ArtifactResult
    from verify.task import Watch

# After so much of the expected work its pace is known.
KNOWN_S = 5.0
SLOWEST, FASTEST = 4.0, 0.25
WORTH_SAYING_S = 10.0


class Forecast:
    """A watch that adds the time left to what it passes on."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._left_s: dict[tuple[str, str], float] = {}
        self._done_s = 0.0  # of the expected work
        self._opened_s = self._began_s = time.monotonic()
        self._shares: dict[tuple[str, str], float] = {}

    def elapsed_s(self) -> float:
        """Return the time since the verification began."""
        return time.monotonic() - self._opened_s

    def expect(self, seconds: Mapping[tuple[str, str], float]) -> None:
        """Hear how long each step of each model is expected to take, from now on."""
        self._left_s, self._done_s, self._shares = dict(seconds), 0.0, {}
        self._began_s = time.monotonic()

    def done(self, name: str, step: str, share: float = 1.0) -> None:
        """Hear how much of a step is done."""
        whole_s = self._left_s.get((name, step), 0.0)
        before = self._shares.get((name, step), 0.0)
        self._done_s += whole_s * max(0.0, share - before)
        self._shares[name, step] = max(before, share)

    def correct(self, step: str, factor: float) -> None:
        """Hear that a step takes this much of what was expected of it, for every model that did not begin."""
        for key in self._left_s:
            if key[1] == step and key not in self._shares:
                self._left_s[key] *= factor

    def left_s(self) -> float | None:
        """Compute the time left; None where nothing was expected."""
        if not self._left_s:
            return None
        pace = 1.0
        if self._done_s >= KNOWN_S:
            pace = min(SLOWEST, max(FASTEST, (time.monotonic() - self._began_s) / self._done_s))
        return pace * max(0.0, sum(self._left_s.values()) - self._done_s)

    def doing(self, name: str, what: str) -> None:
        """Pass on what is being done, with the time that is left of all."""
        left_s = self.left_s()
        is_said = left_s is not None and left_s >= WORTH_SAYING_S
        left = f", about {duration(round(left_s or 0))} left in all" if is_said else ""
        self._watch.doing(name, f"{what}{left}")

    def found(self, result: ArtifactResult) -> None:
        """Pass on an artifact's result so far."""
        self._watch.found(result)
