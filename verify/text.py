"""The text that logits are compared on: a given file, or the scenarios' dialogues."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from convert.errors import Failure
from convert.store.fault import explained
from verify.scenarios.pack import Dialogue, Pack

# More of a file is not read: no tokenizer makes tokens of more than this on average.
BYTES_PER_TOKEN = 16


def read_text(path: Path, tokens: int) -> str:
    """Read the beginning of a UTF-8 file; like llama-perplexity, without the last line's end."""
    most_bytes = tokens * BYTES_PER_TOKEN
    with explained(path), path.open("rb") as file:
        data = file.read(most_bytes)
    try:
        return data.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as fault:
        if len(data) == most_bytes and fault.start >= len(data) - 3:  # the last character was cut
            return data[: fault.start].decode("utf-8")
        raise Failure(f"{path}: byte {fault.start} is not UTF-8", "give a text file in UTF-8") from None


def join_packs(packs: Sequence[Pack]) -> str:
    """Join questions, materials and right answers, one dialogue of each pack in turn."""
    turns = zip_longest(*(pack.dialogues for pack in packs))
    dialogues = (
        "\n".join(_words(pack, dialogue))
        for turn in turns
        for pack, dialogue in zip(packs, turn, strict=True)
        if dialogue is not None
    )
    return "\n\n".join(dialogues)


def _words(pack: Pack, dialogue: Dialogue) -> Iterator[str]:
    for turn in dialogue.turns:
        yield pack.user(turn, dialogue.materials)
        if turn.reference:
            yield turn.reference
