"""Files that are filled in any order, and heard from their start while they are.

What threads write meets in blocks of memory. A full block goes directly to the disk: through the kernel's
memory it would be copied into pages, which a virtual machine must first get from its host, and out of them
again for the digest. What finds no memory, or comes long before its turn to be heard, goes through the
kernel's memory, and is read back from there.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections import deque
from threading import Condition, RLock, Thread
from typing import TYPE_CHECKING, Self

import numpy as np

from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

BLOCK_BYTES = 1 << 20
# Blocks in memory: of one file, and of all. As many after the next one, a block is far from its turn.
FILE_BLOCKS, MOST_BLOCKS = 16, 64
PEAK_BYTES = MOST_BLOCKS * BLOCK_BYTES
# A core hashes several times as fast as one encodes.
CORES_BY_HEARING = 4
# A disk wants the length of a direct write to be a multiple of its sectors'.
SECTOR_BYTES = 4096


class Sink:
    """A file of a planned length, into which everything is written at once."""

    def __init__(self, path: Path, size_bytes: int, drain: Drain) -> None:
        self.path, self.size_bytes = path, size_bytes
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        drain.sinks.append(self)
        os.truncate(self.descriptor, size_bytes)

    def bring_rest(self) -> None:
        """Bring what is still in memory to the disk."""

    def write(self, data: bytes | Bytes, offset_bytes: int) -> None:
        """Write some bytes; threads that call this at once write different ones."""
        write(self.descriptor, data, offset_bytes)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


def write(descriptor: int, data: bytes | Bytes, offset_bytes: int) -> None:
    """Write all of it, however many calls that takes."""
    view = memoryview(data).cast("B")  # type: ignore[arg-type] # numpy's arrays are buffers from 3.12 on
    while view:
        written = os.pwrite(descriptor, view, offset_bytes)
        view = view[written:]
        offset_bytes += written


class HeardSink(Sink):
    """A file whose bytes are heard in their order, each block when all before it are."""

    def __init__(
        self,
        path: Path,
        size_bytes: int,
        drain: Drain,
        covered: Iterable[tuple[int, int]],
        hears: Callable[[memoryview], None],
    ) -> None:
        """Take the ranges that will be written, of which no two have a byte in common."""
        super().__init__(path, size_bytes, drain)
        self._hears, self._drain = hears, drain
        self._direct = _open_directly(path)
        self._missing_bytes = _by_block(size_bytes, covered)
        # Blocks in memory; None for those of which everything is written at once.
        self._blocks: dict[int, Bytes | None] = {}
        self._held = 0  # of them in memory
        self._leaving: set[int] = set()  # for the file, from which they are read when it is their turn
        self._next = 0  # the block to be heard
        if self.is_due():
            drain.hear(self)

    def write(self, data: bytes | Bytes, offset_bytes: int) -> None:
        """Write into blocks in memory, or into the file."""
        left = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data.reshape(-1)
        while left.size:
            number, first = divmod(offset_bytes, BLOCK_BYTES)
            part = left[: BLOCK_BYTES - first]
            with self._drain.lock:
                self._drain.require_sound()
                block = self._blocks[number] if number in self._blocks else self._begin(number)
            if block is None:
                write(self.descriptor, part, offset_bytes)
            else:
                np.copyto(block[first : first + part.size], part)
            with self._drain.lock:
                self._missing_bytes[number] -= part.size
                if not self._missing_bytes[number]:
                    self._filled(number)
            left = left[part.size :]
            offset_bytes += part.size

    def _begin(self, number: int) -> Bytes | None:
        block = self._blocks[number] = self._drain.take() if self._held < FILE_BLOCKS else None
        if block is not None:
            self._held += 1
            if self._missing_bytes[number] < self._length(number):
                block[:] = 0  # what nobody writes
        return block

    def _filled(self, number: int) -> None:
        block = self._blocks[number]
        if number == self._next:
            self._drain.hear(self)
        elif block is not None and number >= self._next + FILE_BLOCKS:
            self._leaving.add(number)
            self._drain.bring(self, number)

    def is_due(self, *, from_memory: bool = False) -> bool:
        """Say whether the next block can be heard, without being read if that is asked for."""
        number = self._next
        is_filled = number < len(self._missing_bytes) and not self._missing_bytes[number]
        is_there = not from_memory or self._blocks.get(number) is not None
        return is_filled and is_there and number not in self._leaving

    def hear_next(self) -> None:
        """Let the next block be heard, which is due."""
        number = self._next
        block = self._blocks.get(number)
        if block is None:
            self._hear_file(number * BLOCK_BYTES, self._length(number))
        else:
            self._hears(block.data[: self._length(number)])
        with self._drain.lock:
            self._next += 1
            if block is None:
                self._blocks.pop(number, None)
            else:
                self._drain.bring(self, number)

    def _hear_file(self, offset_bytes: int, left_bytes: int) -> None:
        left = memoryview(bytearray(left_bytes))
        while left:
            count = os.preadv(self.descriptor, [left], offset_bytes)
            if not count:
                raise Failure(f"{self.path}: was cut short while it was written", "run the command again")
            self._hears(left[:count])
            left = left[count:]
            offset_bytes += count

    def bring_to_disk(self, number: int) -> None:
        """Write a block that is full, and forget it."""
        block = self._blocks[number]
        if block is None:
            raise ValueError(f"{self.path}: block {number} is not in memory")
        whole = block[: self._length(number)]
        # What is read back stays in the kernel's memory until then.
        if number in self._leaving or whole.size % SECTOR_BYTES or not self._wrote_directly(whole, number):
            write(self.descriptor, whole, number * BLOCK_BYTES)
        with self._drain.lock:
            self._drain.give_back(block)
            del self._blocks[number]
            self._held -= 1
            self._leaving.discard(number)
            if number == self._next:
                self._drain.hear(self)

    def _wrote_directly(self, whole: Bytes, number: int) -> bool:
        if self._direct is None:
            return False
        try:
            write(self._direct, whole, number * BLOCK_BYTES)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            os.close(self._direct)
            self._direct = None  # this disk wants more of a direct write
            return False
        return True

    def bring_rest(self) -> None:
        """Bring what is in memory to the disk, whether or not it was heard."""
        if any(self._missing_bytes):
            raise ValueError(f"{self.path}: some planned bytes were not written")
        for number, block in self._blocks.items():
            if block is not None and number >= self._next and number not in self._leaving:
                self._drain.bring(self, number)

    def close(self) -> None:
        """Close the file."""
        if self._direct is not None:
            os.close(self._direct)
        super().close()

    def _length(self, number: int) -> int:
        return min(BLOCK_BYTES, self.size_bytes - number * BLOCK_BYTES)


def _open_directly(path: Path) -> int | None:
    if not hasattr(os, "O_DIRECT"):
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:  # a file system without
        return None


def _by_block(size_bytes: int, covered: Iterable[tuple[int, int]]) -> list[int]:
    """Count the bytes of each block that will be written."""
    counts = [0] * -(-size_bytes // BLOCK_BYTES)
    for start, count in covered:
        for number in range(start // BLOCK_BYTES, -(-(start + count) // BLOCK_BYTES)):
            first, stop = number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES
            counts[number] += min(stop, start + count) - max(first, start)
    return counts


class Drain:
    """The threads of all files: some let blocks be heard, each of another file, and one writes them."""

    def __init__(self, cores: int = 1) -> None:
        self.sinks: list[Sink] = []
        self.lock = RLock()
        self._to_hear, self._to_write = Condition(self.lock), Condition(self.lock)
        self._due: deque[HeardSink] = deque()
        self._heard: set[HeardSink] = set()  # by a thread, right now
        self._full: deque[tuple[HeardSink, int]] = deque()
        self._free: list[Bytes] = []
        self._made = 0
        self._is_over = self._is_heard = False
        self._failure: BaseException | None = None
        self._hearing = [self._thread(self._hear) for _ in range(max(1, cores // CORES_BY_HEARING))]
        self._writing = self._thread(self._write)

    def __enter__(self) -> Self:
        for thread in (*self._hearing, self._writing):
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.lock:
            self._due.clear()
            self._full.clear()
        self._end()
        for sink in self.sinks:
            sink.close()

    def finish(self) -> None:
        """Let everything be on its way to the disk; what would have to be read is not heard any more."""
        with self.lock:
            self._is_over = True
            self._to_hear.notify_all()
        for thread in self._hearing:
            thread.join()
        with self.lock:
            self.require_sound()
            for sink in self.sinks:
                sink.bring_rest()
        self._end()
        self.require_sound()

    def _end(self) -> None:
        with self.lock:
            self._is_over = self._is_heard = True
            self._to_hear.notify_all()
            self._to_write.notify()
        for thread in (*self._hearing, self._writing):
            thread.join()

    def require_sound(self) -> None:
        """Raise what has gone wrong in a thread."""
        if self._failure is not None:
            raise self._failure

    def take(self) -> Bytes | None:
        """Return memory for a block, if there is any; called under the lock, as all below."""
        if self._free:
            return self._free.pop()
        if self._made == MOST_BLOCKS:
            return None
        self._made += 1
        return np.frombuffer(mmap.mmap(-1, BLOCK_BYTES), np.uint8)

    def give_back(self, block: Bytes) -> None:
        """Let a block's memory be used again."""
        self._free.append(block)

    def hear(self, sink: HeardSink) -> None:
        """Let a file be heard as far as it is filled."""
        self._due.append(sink)
        self._to_hear.notify()

    def bring(self, sink: HeardSink, number: int) -> None:
        """Let a block be written."""
        self._full.append((sink, number))
        self._to_write.notify()

    def _thread(self, work: Callable[[], None]) -> Thread:
        return Thread(target=self._work, args=(work,), name=work.__name__.strip("_"), daemon=True)

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - carried to the threads that write, and raised there
            with self.lock:
                self._failure = self._failure or error

    def _hear(self) -> None:
        while True:
            with self.lock:
                while not self._due and not self._is_over:
                    self._to_hear.wait()
                if not self._due:
                    return
                sink = self._due.popleft()
                if sink in self._heard or not sink.is_due(from_memory=self._is_over):
                    continue
                self._heard.add(sink)
            sink.hear_next()
            with self.lock:
                self._heard.remove(sink)
                if sink.is_due():
                    self.hear(sink)

    def _write(self) -> None:
        while True:
            with self.lock:
                while not self._full and not self._is_heard:
                    self._to_write.wait()
                if not self._full:
                    return
                sink, number = self._full.popleft()
            sink.bring_to_disk(number)
