"""The small files of a tokenizer; a fault in one is reported with its name and place."""

from pathlib import Path
from typing import Any, TypeAlias

from convert.errors import Failure
from convert.strict_json import parse_object

Json: TypeAlias = Any  # whatever a JSON file may hold

BROKEN = "the file is damaged, or not what its name says: download it again"


def read_text(path: Path) -> str:
    """Read a UTF-8 file."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as fault:
        raise Failure(f"{path.name}: byte {fault.start} is not UTF-8", BROKEN) from None


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file."""
    return parse_object(read_bytes(path), path.name, BROKEN)


def read_object_if_there(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file that a checkpoint need not have."""
    return read_object(path) if path.is_file() else {}


def read_bytes(path: Path) -> bytes:
    """Read a file."""
    try:
        return path.read_bytes()
    except OSError as fault:
        raise Failure(f"{path.name}: {fault.strerror}") from None
