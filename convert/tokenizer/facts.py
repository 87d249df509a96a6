"""What is found out about a tokenizer at some length, and kept for the next run."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from convert.source.digest import write_atomically

_T = TypeVar("_T", str, list[str], dict[str, Any])


class Facts:
    """What JSON can hold, by name, in a file where there is one."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        with suppress(OSError, ValueError):  # missing or damaged: they are found again
            self._known = dict(json.loads(path.read_text("utf-8"))) if path else {}

    def find(self, name: str, find: Callable[[], _T]) -> _T:
        """Return what is known by that name, or else find it."""
        if name not in self._known:
            self._known[name] = find()
            if self._path:
                with suppress(OSError):
                    write_atomically(self._path, json.dumps(self._known).encode())
        known: _T = self._known[name]
        return known
