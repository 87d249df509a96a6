"""The treatment of spaces in a sentencepiece-like tokenizer, read from its steps."""

import json
from typing import Any

from convert.errors import Failure
from convert.tokenizer.document import Document
from convert.tokenizer.encoder import steps

SPACE = "▁"
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREPEND = {"type": "Prepend", "prepend": SPACE}
# Without effect: the normalizer has replaced all spaces before.
_IDLE_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def has_space_prefix(document: Document) -> bool:
    """Return whether "▁" is put before the first word; anything but "▁" for a space is a Failure."""
    normalizer = steps(document.normalizer, "normalizers")
    splitter = steps(document.pre_tokenizer, "pretokenizers")
    if normalizer == [_PREPEND, _REPLACE] and splitter == []:
        return True
    if normalizer == [_REPLACE] and splitter in ([], [_IDLE_SPLIT]):
        return False
    if normalizer == [] and len(splitter) == 1 and splitter[0]["type"] == "Metaspace":
        return _metaspace(splitter[0], document)
    found = json.dumps([*normalizer, *splitter], ensure_ascii=False)
    what = f"{document.origin}: spaces are treated in a way that we do not know: {found}"
    raise Failure(what, 'known: "▁" for each space, with or without one before the text')


def _metaspace(step: dict[str, Any], document: Document) -> bool:
    if step.get("replacement", SPACE) != SPACE:
        raise Failure(f"{document.origin}: Metaspace with {step['replacement']!r} in place of {SPACE!r}")
    if step.get("split", True):
        # Words are merged separately, unlike in llama.cpp; it is the same if no token spans two of them.
        plain = document.vocab.keys() - {token.content for token in document.added}
        crossing = next((token for token in sorted(plain) if SPACE in token[1:]), None)
        if crossing is not None:
            raise Failure(f"{document.origin}: Metaspace splits at spaces, yet {crossing!r} is a token")
    scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
    return bool(scheme != "never")
