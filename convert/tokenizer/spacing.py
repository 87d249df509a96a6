"""The treatment of spaces in a sentencepiece-like tokenizer, read from its steps."""

import base64
import json
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any, Self

from convert.errors import Failure
from convert.tokenizer.encoder import steps

SPACE = "▁"
SPACES_STEP = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
# sentencepiece's remove_extra_whitespaces: runs of spaces become one, and there is none at either end.
SPACES_TRIMMED = [
    {"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
]
_PREPEND = {"type": "Prepend", "prepend": SPACE}
# The same in Transformers' conversions, which leave the beginning to Metaspace.
_STRIPPED = [
    {"type": "Strip", "strip_left": False, "strip_right": True},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": SPACE},
]
# Without effect: the normalizer has replaced all spaces before.
_IDLE_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


@dataclass(frozen=True)
class Spacing:
    """What happens to text before its pieces are looked up."""

    has_prefix: bool  # "▁" before the first word
    is_first_only: bool = False  # but not where the text begins with a space, nor after a special token
    collapses: bool = False  # runs of spaces become one, and there is none at either end
    charsmap: bytes = b""  # sentencepiece's table of characters to replace

    def to_json(self) -> dict[str, Any]:
        """Write it for a note."""
        return {**asdict(self), "charsmap": base64.b64encode(self.charsmap).decode()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read it from a note."""
        return cls(**{**content, "charsmap": base64.b64decode(content["charsmap"])})


def read_spacing(content: dict[str, Any], added: AbstractSet[str]) -> Spacing:
    """Read it from a tokenizer.json; anything but "▁" for a space is a Failure."""
    normalizer = steps(content["normalizer"], "normalizers")
    splitter = steps(content["pre_tokenizer"], "pretokenizers")
    rest, charsmap = normalizer, b""
    if rest and rest[0]["type"] == "Precompiled":
        charsmap, rest = base64.b64decode(rest[0]["precompiled_charsmap"]), rest[1:]
    collapses = rest[:2] in (SPACES_TRIMMED, _STRIPPED)
    rest = rest[2:] if collapses else rest
    if rest == [_PREPEND, SPACES_STEP] and splitter == []:
        return Spacing(has_prefix=True, collapses=collapses, charsmap=charsmap)
    if rest == [SPACES_STEP] and splitter in ([], [_IDLE_SPLIT]):
        return Spacing(has_prefix=False, collapses=collapses, charsmap=charsmap)
    if rest in ([], [SPACES_STEP]) and len(splitter) == 1 and splitter[0]["type"] == "Metaspace":
        has_prefix = _metaspace(splitter[0], content["model"]["vocab"], added)
        return Spacing(has_prefix, has_prefix, collapses, charsmap)
    found = json.dumps([*normalizer, *splitter], ensure_ascii=False)
    what = f"tokenizer.json: spaces are treated in a way that we do not know: {_clipped(found)}"
    raise Failure(what, 'known: "▁" for each space, with or without one before the text')


def _metaspace(step: dict[str, Any], vocab: Any, added: AbstractSet[str]) -> bool:
    if step.get("replacement", SPACE) != SPACE:
        raise Failure(f"tokenizer.json: Metaspace with {step['replacement']!r} in place of {SPACE!r}")
    if step.get("split", True):
        # Words are merged separately, unlike in llama.cpp; it is the same if no token spans two of them.
        tokens = vocab if isinstance(vocab, dict) else (token for token, _ in vocab)
        crossing = min((token for token in tokens if SPACE in token[1:] and token not in added), default=None)
        if crossing is not None:
            raise Failure(f"tokenizer.json: Metaspace splits at spaces, yet {crossing!r} is a token")
    scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
    return bool(scheme != "never")


def _clipped(text: str) -> str:
    return text if len(text) <= 400 else text[:400] + "…"
