"""Files that are replaced whole: readers see the old one or the new one, never a part."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

# The process may be one of another container, which is not seen from here.
ABANDONED_S = 3600


def _remove_abandoned(path: Path) -> None:
    """Remove the parts of this file that killed processes left."""
    start, end = f".{path.name}.", ".part"
    with suppress(OSError):
        for each in path.parent.iterdir():
            number = each.name.removeprefix(start).removesuffix(end)
            is_part = each.name == f"{start}{number}{end}" and number.isdigit()
            if (
                is_part
                and time.time() - each.stat().st_mtime > ABANDONED_S
                and not Path("/proc", number).exists()
            ):
                each.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a part file; once the block has ended without an error, sync it and put it in place.

    In this order: after a power cut, the name is not that of a file without its bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
