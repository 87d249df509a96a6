"""Numbers, tables and sentences for people; plain text, which reads the same on a terminal and in a pipe."""

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from convert.size import size

GAP = 2  # columns of the terminal between two of a table
NARROWEST = 40  # columns: below, a terminal breaks words better itself


def rate(size_bytes: float, seconds: float) -> str:
    """Write bytes per second."""
    return f"{size(size_bytes / seconds) if seconds > 0 else '—'}/s"


def parameters(amount: int) -> str:
    """Write how large a model is."""
    if amount < 1_000_000:
        return f"{amount:,} parameters"
    shown = f"{amount / 1e9:.2f} billion" if amount >= 999.5e6 else f"{amount / 1e6:.0f} million"
    return f"{shown} parameters"


def count(amount: int, noun: str) -> str:
    """Write a number and its noun: 1 file, 2 files."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: str = "",
    paint: Callable[[str], str] = str,
) -> Iterator[str]:
    """Write columns under their heads; those whose heads are in `right` (words) are aligned to the right.

    The last column's cells are painted.
    """
    body = [list(map(one_line, row)) for row in rows]
    widths = _widths(head, body)
    is_right = [title in right.split() for title in head]
    for number, row in enumerate([list(head), *body]):
        cells = [
            _filled(cell, width, is_right=to_right)
            for cell, width, to_right in zip(row, widths, is_right, strict=True)
        ]
        last = cells.pop().rstrip()
        yield (" " * GAP).join([*cells, paint(last) if number else last]).rstrip()


def fitting_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    leaving: Sequence[str],
    right: str = "",
    paint: Callable[[str], str] = str,
) -> Iterator[str]:
    """Write as many columns as the terminal has room for, and name those that it has not."""
    rows = [tuple(map(one_line, row)) for row in rows]
    titles = fitting(head, rows, leaving, room_columns())
    places = [head.index(title) for title in titles]
    yield from table(titles, ([row[place] for place in places] for row in rows), right, paint)
    if left := [title for title in head if title not in titles]:
        yield f"left out, as the terminal is narrow: {', '.join(left)}"


def fitting(
    head: Sequence[str], rows: Iterable[Sequence[str]], leaving: Sequence[str], room: int
) -> list[str]:
    """Return the heads that fit into `room` columns: until they do, those in `leaving` go in turn."""
    taken = dict(zip(head, _widths(head, rows), strict=True))
    for title in leaving:
        if sum(taken.values()) + GAP * (len(taken) - 1) <= room:
            break
        del taken[title]
    return list(taken)


def _widths(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[int]:
    return [max(map(_columns, column)) for column in zip(head, *rows, strict=True)]


def _filled(cell: str, width: int, *, is_right: bool) -> str:
    space = " " * (width - _columns(cell))
    return space + cell if is_right else cell + space


def _columns(cell: str) -> int:
    """Measure how much of a line it takes: a Chinese character is as wide as two letters."""
    from rich.cells import cell_len  # noqa: PLC0415 - 5 ms that only tables need

    return cell_len(cell)


def room_columns() -> int:
    """Return how wide the terminal is; in a pipe nobody breaks a line."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def facts(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Write names and what is said of them, one below the other."""
    shown = [(one_line(name), one_line(value)) for name, value in pairs]
    width = max(len(name) for name, _ in shown)
    return (f"{name.ljust(width)}  {value}" for name, value in shown)


def paragraph(line: str, indent: str = "") -> Iterator[str]:
    """Break a sentence at words where a terminal would break it within one; in a pipe it stays a line."""
    room = room_columns()
    if not NARROWEST <= room < sys.maxsize:
        yield f"{indent}{line}"
        return
    filled = ""
    for word in line.split():
        longer = f"{filled} {word}" if filled else f"{indent}{word}"
        if filled and _columns(longer) > room:
            yield filled
            longer = f"{indent}  {word}"
        filled = longer
    yield filled


def one_line(text: str) -> str:
    """Make text harmless, and one line of it."""
    return harmless(text.replace("\n", " ").replace("\t", " "))


def harmless(text: str) -> str:
    """Show what a terminal would obey: a name from a file may hold anything, and so may an answer."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)
