"""tokenizer.json as data: every source becomes one, and the canonical file is written from it."""

import binascii
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from convert.errors import Failure
from convert.model.family import Split
from convert.tokenizer.charsmap import is_sound
from convert.tokenizer.encoder import steps
from convert.tokenizer.file import BROKEN, Json
from convert.tokenizer.model import AddedToken, Kind

SUPPORTED = "supported: byte-level BPE, and BPE and unigram as sentencepiece makes them"
_T = TypeVar("_T")
_NAMES: dict[type, str] = {dict: "object", list: "array", str: "string"}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BYTES_ONLY = {**_BYTE_LEVEL, "use_regex": False}
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


@dataclass(frozen=True)
class Document:
    """A vocabulary, its merges and the steps around them, in the terms of the `tokenizers` library."""

    origin: str  # the file to name in messages
    vocab: dict[str, int]
    merges: tuple[tuple[str, str], ...]
    added: tuple[AddedToken, ...]
    normalizer: Json = None
    pre_tokenizer: Json = None
    post_processor: Json = None
    decoder: Json = None
    unk_token: str | None = None
    fuse_unk: bool = False
    byte_fallback: bool = False
    ignore_merges: bool = False
    scores: tuple[float, ...] = ()  # one for each id, where the vocabulary itself has them
    is_unigram: bool = False  # scores alone join, and there are no merges
    roles: Mapping[str, str] = field(
        default_factory=dict
    )  # role → token, where the vocabulary itself says it

    @property
    def kind(self) -> Kind:
        """Return which kind of symbols it uses, and how it joins them."""
        if self.is_unigram:
            return Kind.UNIGRAM
        if any(step["type"] == "ByteLevel" for step in steps(self.pre_tokenizer, "pretokenizers")):
            return Kind.BYTE_BPE
        if self.byte_fallback or self.unk_token is not None:
            return Kind.SPM_BPE
        raise Failure(f"{self.origin}: neither a ByteLevel pre-tokenizer nor byte_fallback", SUPPORTED)

    @property
    def ids(self) -> dict[str, int]:
        """Map every token to its id, including added tokens."""
        return {**self.vocab, **{token.content: token.id for token in self.added}}

    def with_added(self, tokens: Iterable[AddedToken]) -> Self:
        """Return the document with tokens that another file adds; the last one with an id wins."""
        added = {token.id: token for token in (*self.added, *tokens)}
        return replace(self, added=tuple(added[identity] for identity in sorted(added)))

    def to_bytes(self) -> bytes:
        """Write the canonical tokenizer.json: equal tokenizers give equal bytes."""
        content = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": token.id, "content": token.content}
                | {flag: getattr(token, flag) for flag in (*_FLAGS, "special")}
                for token in self.added
            ],
            "normalizer": self.normalizer,
            "pre_tokenizer": self.pre_tokenizer,
            "post_processor": self.post_processor,
            "decoder": self.decoder,
            "model": self._unigram() if self.is_unigram else self._bpe(),
        }
        return (json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8")

    def _bpe(self) -> dict[str, Json]:
        # Every version of every library reads strings; only a merge with a space needs a pair.
        is_plain = not any(" " in left or " " in right for left, right in self.merges)
        return {
            "type": "BPE",
            "dropout": None,
            "unk_token": self.unk_token,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": self.fuse_unk,
            "byte_fallback": self.byte_fallback,
            "ignore_merges": self.ignore_merges,
            "vocab": dict(sorted(self._bpe_vocab().items(), key=lambda item: item[1])),
            "merges": [f"{left} {right}" if is_plain else [left, right] for left, right in self.merges],
        }

    def _bpe_vocab(self) -> dict[str, int]:
        """Return the vocabulary, with added tokens where the library would count other ids for them."""
        new = [token.id for token in self.added if token.content not in self.vocab]
        follows = new == list(range(len(self.vocab), len(self.vocab) + len(new)))
        return self.vocab if follows else self.ids

    def _unigram(self) -> dict[str, Json]:
        tokens = {identity: token for token, identity in self.vocab.items()}
        return {
            "type": "Unigram",
            "unk_id": None if self.unk_token is None else self.vocab[self.unk_token],
            "vocab": [[tokens[identity], score] for identity, score in enumerate(self.scores)],
            "byte_fallback": self.byte_fallback,
        }


def read_document(content: dict[str, Any], origin: str) -> Document:
    """Read a tokenizer.json and check the type of each part; `check_document` checks the rest."""
    model = _field(content, "model", dict, origin)
    if model.get("type") == "Unigram":
        return Document(**_read_unigram(model, origin), **_read_stages(content, origin))
    if model.get("type", "BPE") != "BPE":
        raise Failure(f"{origin}: model.type {model['type']!r} is not supported", SUPPORTED)
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise Failure(f"{origin}: model.{key} {model[key]!r} is not supported", SUPPORTED)
    return Document(
        origin=origin,
        vocab=_vocabulary(model, origin),
        merges=tuple(_merges(_field(model, "merges", list, origin, "model."), origin)),
        unk_token=_field(model, "unk_token", str, origin, "model.") if model.get("unk_token") else None,
        fuse_unk=bool(model.get("fuse_unk")),
        byte_fallback=bool(model.get("byte_fallback")),
        ignore_merges=bool(model.get("ignore_merges")),
        **_read_stages(content, origin),
    )  # fmt: skip


def _vocabulary(model: dict[str, Any], origin: str) -> dict[str, int]:
    """Read the ids by token; other files' tokens are looked up in it before it is checked as a whole."""
    vocab: dict[str, int] = _field(model, "vocab", dict, origin, "model.")
    for token, identity in vocab.items():
        if type(identity) is not int:
            raise Failure(f"{origin}: model.vocab: {token!r} has the id {identity!r}", BROKEN)
    return vocab


def _read_unigram(model: dict[str, Any], origin: str) -> dict[str, Any]:
    vocab: dict[str, int] = {}
    scores = []
    for identity, entry in enumerate(_field(model, "vocab", list, origin, "model.")):
        where = f"{origin}: model.vocab[{identity}]"
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise Failure(f"{where}: a token and its score were expected, not {entry!r}", BROKEN)
        if not isinstance(entry[1], int | float) or not math.isfinite(entry[1]):
            raise Failure(f"{where}: the score of {entry[0]!r} is {entry[1]!r}", BROKEN)
        if vocab.setdefault(entry[0], identity) != identity:
            raise Failure(f"{where}: {entry[0]!r} has the id {vocab[entry[0]]} too", BROKEN)
        scores.append(float(entry[1]))
    unk_id = model.get("unk_id")
    if unk_id is not None and (not isinstance(unk_id, int) or not 0 <= unk_id < len(scores)):
        raise Failure(f"{origin}: model.unk_id {unk_id!r} is not an id of its {len(scores)} tokens", BROKEN)
    tokens = list(vocab)
    return {
        "origin": origin,
        "vocab": vocab,
        "merges": (),
        "scores": tuple(scores),
        "is_unigram": True,
        "unk_token": None if unk_id is None else tokens[unk_id],
        "fuse_unk": True,
        "byte_fallback": bool(model.get("byte_fallback")),
    }


def _read_stages(content: dict[str, Any], origin: str) -> dict[str, Any]:
    return {
        "added": tuple(_added(token, f"{origin}: added_tokens[{index}]") for index, token in
                       enumerate(_field({"added_tokens": [], **content}, "added_tokens", list, origin))),
        "normalizer": _stage(content, "normalizer", "normalizers", origin),
        "pre_tokenizer": _stage(content, "pre_tokenizer", "pretokenizers", origin),
        "post_processor": _stage(content, "post_processor", "processors", origin),
        "decoder": _stage(content, "decoder", "decoders", origin),
    }  # fmt: skip


def read_added(value: Json, identity: int, where: str, *, special: bool) -> AddedToken:
    """Read a token of a configuration file: its text, or an object with flags."""
    if isinstance(value, str):
        return AddedToken(identity, value, special)
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        raise Failure(f"{where}: a token was expected, not {value!r}", BROKEN)
    flags = {flag: bool(value.get(flag)) for flag in _FLAGS}
    return AddedToken(identity, value["content"], bool(value.get("special", special)), **flags)


def _added(value: Json, where: str) -> AddedToken:
    if not isinstance(value, dict) or not isinstance(value.get("id"), int) or value["id"] < 0:
        raise Failure(f"{where}: a token with its id was expected, not {value!r}", BROKEN)
    return read_added(value, value["id"], where, special=False)


def _merges(values: list[Json], origin: str) -> Iterator[tuple[str, str]]:
    """Read merges: older files write "a b", newer ones ["a", "b"]."""
    for index, value in enumerate(values):
        pair = value.split(" ") if isinstance(value, str) else value
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not (isinstance(pair[0], str) and pair[0] and isinstance(pair[1], str) and pair[1])
        ):
            what = f"{origin}: model.merges[{index}]: a pair of tokens was expected, not {value!r}"
            raise Failure(what, BROKEN)
        yield pair[0], pair[1]


def _field(content: dict[str, Any], key: str, kind: type[_T], origin: str, prefix: str = "") -> _T:
    value = content.get(key)
    if not isinstance(value, kind):
        fault = "missing" if value is None else f"not a JSON {_NAMES[kind]}"
        raise Failure(f"{origin}: {prefix}{key} is {fault}", BROKEN)
    return value


def _stage(content: dict[str, Any], key: str, children: str, origin: str) -> Json:
    stage = content.get(key)
    pending = [stage] if stage is not None else []
    while pending:
        step = pending.pop()
        if not isinstance(step, dict) or not isinstance(step.get("type"), str):
            raise Failure(f"{origin}: {key}: a step with its type was expected, not {step!r}", BROKEN)
        if step["type"] == "Precompiled" and not _is_table(step.get("precompiled_charsmap")):
            raise Failure(f"{origin}: {key}: the table of letters to replace is damaged", BROKEN)
        if step["type"] == "Sequence":
            inner = step.get(children)
            if not isinstance(inner, list):
                raise Failure(f"{origin}: {key}: a Sequence without {children}", BROKEN)
            pending += inner
    return stage


def _is_table(value: Json) -> bool:
    try:
        return isinstance(value, str) and is_sound(binascii.a2b_base64(value, strict_mode=True))
    except ValueError:
        return False


def split_steps(split: Split) -> dict[str, Any]:
    """Spell the steps out as a tokenizer.json has them."""
    if split.expression is None:
        return dict.fromkeys(("pre_tokenizer", "post_processor", "decoder"), _BYTE_LEVEL)
    step = {"type": "Split", "pattern": {"Regex": split.expression}, "behavior": "Isolated", "invert": False}
    return {
        "normalizer": {"type": split.normalizer} if split.normalizer else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [step, _BYTES_ONLY]},
        "post_processor": _BYTES_ONLY,
        "decoder": _BYTES_ONLY,
    }


def starting_with(token: str) -> Json:
    """Put a token before the text, as Transformers' classes and llama.cpp do unless a file says otherwise."""
    single = [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": single}
