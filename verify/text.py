"""The text that odds are compared on: a person's file, or what the scenarios' dialogues say."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from convert.errors import Failure
from convert.store.fault import explained

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from verify.scenarios.pack import Dialogue, Pack

# More of a file is not read: no tokenizer makes tokens of more than this on average.
BYTES_PER_TOKEN = 16


def text_of_file(path: Path, tokens: int) -> str:
    """The beginning of a UTF-8 file; llama-perplexity drops the last line's end as well."""
    most_bytes = tokens * BYTES_PER_TOKEN
    with explained(path), path.open("rb") as file:
        data = file.read(most_bytes)
    try:
        return data.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as fault:
        if len(data) == most_bytes and fault.start >= len(data) - 3:  # the last character was cut
            return data[: fault.start].decode("utf-8")
        raise Failure(f"{path}: byte {fault.start} is not UTF-8", "give a text file in UTF-8") from None


def text_of_packs(packs: Sequence[Pack]) -> str:
    """Questions, materials and right answers, a dialogue of each pack in turn, so that all are met early."""
    turns = zip_longest(*(pack.dialogues for pack in packs))
    dialogues = (
        "\n".join(_said(pack, dialogue))
        for turn in turns
        for pack, dialogue in zip(packs, turn, strict=True)
        if dialogue is not None
    )
    return "\n\n".join(dialogues)


def _said(pack: Pack, dialogue: Dialogue) -> Iterator[str]:
    for turn in dialogue.turns:
        yield pack.user(turn, dialogue.materials)
        if turn.reference:
            yield turn.reference
