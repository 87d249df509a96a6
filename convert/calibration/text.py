"""A text file in pieces of bounded size: all of a short file, stretches of a long one."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from convert.calibration.draw import shuffled
from convert.errors import Failure
from convert.strict_json import parse

# The size of a piece for the tokenizer, and of a stretch of a long file.
PIECE_BYTES = 1 << 20
# The longest line of a .jsonl file; long lines of plain text are read in parts.
MAX_LINE_BYTES = 16 << 20
# Bytes that continue a UTF-8 character, which a stretch may begin with.
CONTINUATIONS = bytes(range(0x80, 0xC0))


def read_text(path: Path, max_bytes: int, seed: int) -> Iterator[str]:
    """Read about `max_bytes` of a text: all of it, or stretches of it that the seed chooses."""
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, 2)
            is_jsonl = path.suffix.lower() == ".jsonl"
            for first, stop in _stretches(size_bytes, max_bytes, seed):
                lines = _lines(file, first, stop, in_parts=not is_jsonl)
                is_last = stop == size_bytes
                texts = _documents(path, lines) if is_jsonl else _decoded(path, lines, is_last=is_last)
                yield from _pieces(texts)
    except OSError as error:
        what = f"{path}: cannot be read: {error.strerror or error}"
        raise Failure(what, "check the path in the recipe") from error


def _stretches(size_bytes: int, max_bytes: int, seed: int) -> list[tuple[int, int]]:
    if size_bytes <= max_bytes:
        return [(0, size_bytes)]
    drawn = shuffled(range(0, size_bytes, PIECE_BYTES), seed)[: max_bytes // PIECE_BYTES]
    return [(first, min(size_bytes, first + PIECE_BYTES)) for first in sorted(drawn)]


def _lines(file: IO[bytes], first: int, stop: int, *, in_parts: bool) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that begin in a stretch, with their positions; long ones in parts if `in_parts`."""
    max_bytes = PIECE_BYTES if in_parts else MAX_LINE_BYTES
    position = first
    # One byte earlier, so that a line that begins right here is not skipped.
    file.seek(max(0, first - 1))
    if first:
        skipped = file.readline(stop - first + 1)
        if skipped.endswith(b"\n"):
            position += len(skipped) - 1
        elif not in_parts:
            return
    elif file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
        position += len(codecs.BOM_UTF8)
    file.seek(position)
    while position < stop and (line := file.readline(max_bytes)):
        yield position, line
        position += len(line)


def _decoded(path: Path, lines: Iterator[tuple[int, bytes]], *, is_last: bool) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_first = True
    position = 0
    try:
        for position, line in lines:
            yield decoder.decode(line.lstrip(CONTINUATIONS) if is_first and position else line)
            is_first = False
        yield decoder.decode(b"", final=is_last)
    except UnicodeDecodeError as error:
        what = f"{path}: not UTF-8 text (byte {position + error.start}: {error.reason})"
        raise Failure(what, "save it as UTF-8") from error


def _documents(path: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[str]:
    """Read the `text` of each line's JSON object."""
    for position, line in lines:
        if not line.strip():
            continue
        where, hint = f"{path}: the line at byte {position}", "write one JSON object per line"
        if len(line) == MAX_LINE_BYTES:
            raise Failure(f"{where} is too long", hint)
        document = parse(line, where, hint)
        text = document.get("text") if isinstance(document, dict) else None
        if not isinstance(text, str):
            what = f"{path}: the line at byte {position} has no `text`"
            raise Failure(what, 'write each line as {"text": "…"}')
        yield text + "\n"


def _pieces(texts: Iterator[str]) -> Iterator[str]:
    """Join lines to pieces for the tokenizer, and cut those that are too long for it."""
    held: list[str] = []
    held_size = 0
    for text in texts:
        for first in range(0, len(text), PIECE_BYTES):
            held.append(text[first : first + PIECE_BYTES])
            held_size += len(held[-1])
            if held_size >= PIECE_BYTES:
                yield "".join(held)
                held, held_size = [], 0
    if held_size:
        yield "".join(held)
