"""A thread that runs often: a long time in which it does not is one in which this process was stopped."""

import threading
import time
from contextlib import suppress
from pathlib import Path

# Far longer than between two beats, even where other programs keep all processors busy.
STOPPED_S = 0.5


class Pulse:
    """The beats of the thread that makes it, as any other thread may ask for them."""

    def __init__(self) -> None:
        # Its second figure is how long the thread could have run and had no processor.
        self._stat = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._lock = threading.Lock()
        self._stopped_s = self._beat_s = self._starved_s = 0.0
        self._note()

    def beat(self) -> None:
        """Hear that the thread runs."""
        with self._lock:
            self._stopped_s += self._missed_s()
            self._note()

    def stopped_s(self) -> float:
        """Return how long so far this process was stopped, as by SIGSTOP or while its machine slept.

        Where it only had no processor, since others took them all, it was not.
        """
        with self._lock:
            return self._stopped_s + self._missed_s()

    def _missed_s(self) -> float:
        missed_s = time.monotonic() - self._beat_s
        if missed_s > STOPPED_S:
            missed_s -= self._read_starved_s() - self._starved_s
        return missed_s if missed_s > STOPPED_S else 0.0

    def _note(self) -> None:
        self._beat_s, self._starved_s = time.monotonic(), self._read_starved_s()

    def _read_starved_s(self) -> float:
        with suppress(OSError, ValueError, IndexError):  # not every kernel counts it
            return int(self._stat.read_bytes().split()[1]) / 1e9
        return 0.0
