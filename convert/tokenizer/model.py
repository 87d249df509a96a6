"""The canonical tokenizer, from which every format writes its files."""

import json
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import cached_property
from typing import Any

from convert.tokenizer import pretokenizer
from convert.tokenizer.facts import Facts
from convert.tokenizer.spacing import Spacing, read_spacing


class Kind(StrEnum):
    """The symbols that text is split into, and how they are joined."""

    BYTE_BPE = "byte-bpe"  # every byte a printable character
    SPM_BPE = "spm-bpe"  # characters, "▁" for a space, <0xNN> for the rest
    UNIGRAM = "unigram"  # the same, and no merges: the likeliest way to cut the text


class TokenType(IntEnum):
    """The type of a token, with the values of GGUF's `tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class AddedToken:
    """A token that is cut out of the text before the vocabulary is used."""

    id: int
    content: str
    special: bool
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary with its rules, and the same as files for Hugging Face's libraries."""

    kind: Kind
    tokens: tuple[str, ...]  # index is the id; filled up to the model's vocabulary with "[PAD{id}]"
    types: tuple[TokenType, ...]
    merges: tuple[tuple[str, str], ...]
    scores: tuple[float, ...] | None  # SPM_BPE and UNIGRAM
    added: tuple[AddedToken, ...]
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    pad_id: int | None
    eot_id: int | None  # ends a turn of a chat, where that is a separate token
    eog_ids: tuple[int, ...]  # everything that must stop generation, ascending
    add_bos: bool
    add_eos: bool
    chat_template: str | None
    json: bytes  # tokenizer.json
    config: dict[str, Any]  # tokenizer_config.json
    opening: tuple[int, ...] = ()  # tokens that go between bos and every text
    check_digest: str | None = None  # of what it makes of llama.cpp's check text, where that was asked
    facts: Facts = field(default_factory=Facts, compare=False, repr=False)

    @cached_property
    def pre(self) -> str:
        """Return llama.cpp's name for the pre-tokenizer; a Failure where it has none.

        Only GGUF needs it, so other formats accept tokenizers that llama.cpp cannot split.
        """
        if self.kind is not Kind.BYTE_BPE:
            return "default"
        return self.facts.find("pre", lambda: pretokenizer.identify(self.json, self.check_digest))

    @cached_property
    def split_differently(self) -> tuple[str, ...]:
        """Return the texts, of a corpus of ours, that llama.cpp splits in other places."""
        if self.kind is not Kind.BYTE_BPE:
            return ()
        return tuple(self.facts.find("split", lambda: [*pretokenizer.compare(self.json, self.pre)]))

    @cached_property
    def spacing(self) -> Spacing:
        """Return how spaces become "▁"; a Failure where no runtime but the tokenizers library can do it."""

        def read() -> dict[str, Any]:
            return read_spacing(json.loads(self.json), {token.content for token in self.added}).to_json()

        return Spacing.from_json(self.facts.find("spacing", read))
