"""Put a finished folder in its place, in one step that a reader cannot see half of."""

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

# The answers of a kernel or a file system that cannot exchange two names.
_CANNOT_EXCHANGE = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})


def swap_in(finished: Path, target: Path, aside: Path) -> None:
    """Move `finished` to `target`; the caller removes the old folder, now at `finished` or `aside`.

    Callers hold the store's lock, so that nothing else moves here meanwhile. Where two names cannot be
    exchanged, the old folder waits at `aside` between two renames; after a kill there, `clear` puts it back.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(target):
        finished.rename(target)
    else:
        try:
            exchange(finished, target)
        except OSError as error:
            if error.errno not in _CANNOT_EXCHANGE:
                raise
            target.rename(aside)
            finished.rename(target)
    for folder in (target.parent, target.parent.parent, finished.parent):  # the recipe's may be new
        sync(folder)


def clear(unfinished: Path, target: Path, aside: Path) -> None:
    """Remove the rest of a build; if it was killed between two renames, put the old artifact back."""
    if aside.exists():
        if os.path.lexists(target):
            remove(aside)
        else:
            aside.rename(target)
            sync(target.parent)
    remove(unfinished)


def remove(folder: Path) -> None:
    """Remove a folder and all in it, even while another process does the same."""
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
