"""Markdown that shows strangers' words and does nothing else with them."""

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from convert.recipe.redact import redact

# As character references, not behind backslashes: the Hub looks for mathematics, `\\(` and `$$`, first.
SPECIAL = frozenset("\\`*_[]<>#|~$&")
LONGEST_TEXT = 400
# Beyond it a fence would be the whole card; what is cut can be read in the files themselves.
LONGEST_FENCE = 20_000


def one_line(value: object) -> str:
    """Put a value on one line, cut to a reasonable length, without invisible characters."""
    line = " ".join(redact(str(value)).split())
    line = line if len(line) <= LONGEST_TEXT else f"{line[: LONGEST_TEXT - 1]}…"
    return "".join(char if char.isprintable() else "�" for char in line)


def text(value: object) -> str:
    """Escape a stranger's words, so that they show as they are."""
    return "".join(f"&#{ord(char)};" if char in SPECIAL else char for char in one_line(value))


def code(value: object, *, in_cell: bool = False) -> str:
    """Write a stranger's word as code; nothing in it ends the span, or a table's cell."""
    line = one_line(value)
    if in_cell:
        line = line.replace("|", "\\|")
    if not line:
        return "` `"
    tick = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{tick}{pad}{line}{pad}{tick}"


def fence(content: str, language: str = "") -> str:
    """Write a block of code that holds any text, even one with fences in it."""
    shown = content if len(content) <= LONGEST_FENCE else f"{content[:LONGEST_FENCE]}\n…"
    shown = "".join(char if char.isprintable() or char in "\n\t" else "�" for char in shown)
    marks = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", shown)), 3)
    return f"{marks}{language}\n{shown.rstrip()}\n{marks}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: Sequence[str]) -> str:
    """Write a table of finished cells; the columns that are not `words` are figures."""
    rule = [" --- " if name in words else " --: " for name in head]
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def link(shown: str, target: str) -> str:
    """Link to one of the repo's files, or to an address; `shown` is Markdown already."""
    return f"[{shown}]({quote(target, safe='/:#?=%@+,~.-_')})"
