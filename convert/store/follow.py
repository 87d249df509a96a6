"""Hash files and bring them to the disk while they are being written, as far as they are final."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import Self

from convert.errors import Failure
from convert.store.digest import BUFFER_BYTES, Begun
from convert.store.fault import explained

# So much at a time is hashed, so that little is left at the end; and so much is brought to the disk together.
STEP_BYTES, SYNCED_BYTES = 8 << 20, 64 << 20


class Follower:
    """One thread that reads what others have just written, while the kernel still has it in memory."""

    def __init__(self, step_bytes: int = STEP_BYTES, synced_bytes: int = SYNCED_BYTES) -> None:
        self._step_bytes = step_bytes
        self._synced_bytes = synced_bytes
        self._unsynced_bytes: dict[Path, int] = {}
        self._final_bytes: dict[Path, int] = {}
        self._begun: dict[Path, Begun] = {}
        self._changed = Condition()
        self._is_over = False
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, name="digest", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def watch(self, path: Path) -> Callable[[int], None]:
        """Return what is to be called with the number of bytes that are final from the file's start."""

        def reached(final_bytes: int) -> None:
            with self._changed:
                self._final_bytes[path] = final_bytes
                self._changed.notify()

        return reached

    def begun(self) -> Mapping[Path, Begun]:
        """End, and return how far each file's digest is."""
        self._end()
        if self._failure:
            raise self._failure
        return self._begun

    def _end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        buffer = memoryview(bytearray(BUFFER_BYTES))
        try:
            while path := self._next():
                with explained(path):
                    self._follow(path, buffer)
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread and raised there
            self._failure = error

    def _next(self) -> Path | None:
        """Wait for a file that has much to hash; None when nothing more is wanted."""
        with self._changed:
            while not self._is_over:
                path = max(self._final_bytes, key=self._waiting_bytes, default=None)
                if path and self._waiting_bytes(path) >= self._step_bytes:
                    return path
                self._changed.wait()
        return None

    def _waiting_bytes(self, path: Path) -> int:
        begun = self._begun.get(path)
        return self._final_bytes[path] - (begun.size_bytes if begun else 0)

    def _follow(self, path: Path, buffer: memoryview) -> None:
        begun = self._begun.setdefault(path, Begun())
        stop_bytes = begun.size_bytes + self._step_bytes
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            while begun.size_bytes < stop_bytes:
                count = os.preadv(descriptor, [buffer[: stop_bytes - begun.size_bytes]], begun.size_bytes)
                if not count:
                    raise Failure(f"{path}: was cut short while it was written", "run the command again")
                begun.add(buffer[:count])
            unsynced_bytes = self._unsynced_bytes.get(path, 0) + self._step_bytes
            if unsynced_bytes >= self._synced_bytes and not self._is_over:  # at the end, sealing does it
                os.fsync(descriptor)
                if hasattr(os, "posix_fadvise"):
                    # What is written next takes these pages, not others, which a virtual machine must first
                    # get from its host; and the source stays in memory.
                    start_bytes = begun.size_bytes - unsynced_bytes
                    os.posix_fadvise(descriptor, start_bytes, unsynced_bytes, os.POSIX_FADV_DONTNEED)
                unsynced_bytes = 0
            self._unsynced_bytes[path] = unsynced_bytes
        finally:
            os.close(descriptor)
