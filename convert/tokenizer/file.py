"""Reading a tokenizer's small files: whatever is wrong with one is said with its name and place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from convert.errors import Failure

if TYPE_CHECKING:
    from pathlib import Path

Json: TypeAlias = Any  # whatever a JSON file may hold

BROKEN = "the file is damaged or not what its name says; download it again"


def read_text(path: Path) -> str:
    """The text of a UTF-8 file."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as fault:
        raise Failure(f"{path.name}: byte {fault.start} is not UTF-8", BROKEN) from None
    except OSError as fault:
        raise Failure(f"{path.name}: {fault.strerror}") from None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; a key given twice is a fault, since one of the two would be lost."""
    try:
        content = json.loads(read_text(path), object_pairs_hook=_unique)
    except json.JSONDecodeError as fault:
        raise Failure(f"{path.name}:{fault.lineno}: {fault.msg}", BROKEN) from None
    except _TwiceError as fault:
        raise Failure(f"{path.name}: the key {fault.args[0]!r} stands twice", BROKEN) from None
    except RecursionError:
        raise Failure(f"{path.name}: nested too deeply", BROKEN) from None
    if not isinstance(content, dict):
        raise Failure(f"{path.name}: a JSON object was expected, not {type(content).__name__}", BROKEN)
    return content


def read_object_if_there(path: Path) -> dict[str, Any]:
    """The same for a file that a checkpoint may do without."""
    return read_object(path) if path.is_file() else {}


class _TwiceError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise _TwiceError(key)
            seen.add(key)
    return content
