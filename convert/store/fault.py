"""Turn the operating system's errors into plain messages with a hint."""

import errno
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from convert.errors import Failure

_ELSEWHERE = "choose another folder with --out"

# errno → (what happened, what to try)
_REASONS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", f"free some space, or {_ELSEWHERE}"),
    errno.EDQUOT: ("the disk quota is used up", f"free some space, or {_ELSEWHERE}"),
    errno.EFBIG: (
        "the file grew past what this file system or `ulimit -f` allows",
        f"raise the limit, split the output, or {_ELSEWHERE}",
    ),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.EACCES: ("no permission", f"check who owns the folder (`ls -ld`), or {_ELSEWHERE}"),
    errno.EPERM: ("not permitted", f"check who owns the folder (`ls -ld`), or {_ELSEWHERE}"),
    errno.ENOTDIR: ("a file is where a folder is needed", f"move that file away, or {_ELSEWHERE}"),
    errno.EEXIST: ("something else is already there", f"move it away, or {_ELSEWHERE}"),
    errno.EISDIR: ("a folder is where a file is needed", "move that folder away"),
    errno.ENOENT: ("no such file or folder", "check the path; was it removed in the meantime?"),
    errno.ELOOP: ("symbolic links form a circle or lead out of the folder", f"replace them, or {_ELSEWHERE}"),
    errno.ENAMETOOLONG: ("the path is too long for this file system", _ELSEWHERE),
    errno.EXDEV: ("it is on another file system than the folder around it", f"{_ELSEWHERE} as a whole"),
    errno.EIO: ("the disk reports an error", f"look into the system's log (`dmesg`), and {_ELSEWHERE}"),
    errno.ENOLCK: ("file locks do not work here", "choose a folder on a local disk with --out"),
    errno.EMFILE: ("too many files are open", "raise the limit with `ulimit -n 4096`"),
    errno.EBUSY: ("it is in use", "stop what uses it, then try again"),
}

# Only writing raises these, whichever thread or library did it.
WRITE_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


def failure_from(error: OSError, path: Path) -> Failure:
    """Turn an OSError about `path` into the message and the hint that a person sees."""
    reason, hint = _REASONS.get(
        error.errno or 0, (error.strerror or str(error), "check the path and its folder")
    )
    return Failure(f"{path}: {reason}", hint)


@contextmanager
def explained(path: Path, only: Container[int | None] | None = None) -> Iterator[None]:
    """Translate each OSError, or `only` these, into a Failure on the file that the error names."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        named = Path(error.filename) if isinstance(error.filename, str) else path
        raise failure_from(error, named) from error
