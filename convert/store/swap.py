"""Put a finished folder where it belongs, in one step that a reader cannot see half of."""

import ctypes
import errno
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path

from convert.store.digest import sync

_AT_FDCWD = -100  # <fcntl.h>
_RENAME_EXCHANGE = 2  # <linux/fs.h>

# What a kernel or a file system answers that cannot exchange two names.
_CANNOT_EXCHANGE = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})


def put_in_place(finished: Path, place: Path, aside: Path) -> None:
    """Move `finished` to `place`; what stood there ends at `finished` or `aside`, for the caller to remove.

    Callers hold the store's lock, so that nothing else moves here meanwhile. Where two names cannot be
    exchanged, the old folder waits at `aside` for the time of two renames; who finds it there with
    nothing in place puts it back (`clear` does).
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(place):
        finished.rename(place)
    else:
        try:
            exchange(finished, place)
        except OSError as error:
            if error.errno not in _CANNOT_EXCHANGE:
                raise
            place.rename(aside)
            finished.rename(place)
    sync(place.parent)
    sync(place.parent.parent)  # the recipe's folder may be new
    sync(finished.parent)


def clear(unfinished: Path, place: Path, aside: Path) -> None:
    """Remove what a build left behind; if it was killed between two renames, put the old artifact back."""
    if aside.exists():
        if os.path.lexists(place):
            remove(aside)
        else:
            aside.rename(place)
            sync(place.parent)
    remove(unfinished)


def remove(folder: Path) -> None:
    """Remove a folder and all in it; that another process was quicker is no fault."""
    while os.path.lexists(folder):
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


def exchange(one: Path, other: Path) -> None:
    """Swap two names in one step (renameat2 with RENAME_EXCHANGE); OSError(ENOSYS) where there is none."""
    call = _renameat2()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))


@cache
def _renameat2() -> "ctypes._NamedFuncPointer | None":
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
        call.restype = ctypes.c_int
    return call
