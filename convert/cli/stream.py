"""Output streams that survive a closed terminal or pipe."""

from contextlib import suppress
from typing import Any, TextIO, cast


def forgiving(stream: TextIO) -> TextIO:
    """Wrap a stream so that a reader who went away does not end hours of work."""
    return cast("TextIO", _Forgiving(stream))


class _Forgiving:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
