"""Colors, where a terminal has them and NO_COLOR is unset."""

from __future__ import annotations

import os
import sys
from typing import TextIO

# SGR numbers: what passed, failed and broke differ in more than one way for those who see no red.
PASSED, FAILED, OPEN, ERROR, HINT = "32", "1;33", "36", "1;31", "36"
VERDICTS = {"passed": PASSED, "FAILED": FAILED, "failed": FAILED, "inconclusive": OPEN}


def has_color(stream: TextIO) -> bool:
    """Say whether a stream is a terminal whose user wants colors (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, color: str, stream: TextIO | None = None) -> str:
    """Color a text for a stream, stdout by default."""
    return f"\x1b[{color}m{text}\x1b[0m" if has_color(stream or sys.stdout) else text


def verdict(cell: str, stream: TextIO | None = None) -> str:
    """Color a cell of the table of verdicts."""
    color = VERDICTS.get(cell.strip())
    return painted(cell, color, stream) if color else cell
