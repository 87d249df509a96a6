"""The special tokens of a checkpoint, and their roles: which begins, ends, pads and stops."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import Failure, shown
from convert.tokenizer.document import Document, read_added
from convert.tokenizer.file import BROKEN, read_object_if_there
from convert.tokenizer.model import AddedToken, Kind

ROLES = ("bos", "eos", "unk", "pad")
_LISTS = ("additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens")
# The defaults of Transformers' classes, where no file names a token.
_DEFAULTS = {
    Kind.BYTE_BPE: {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"},
    Kind.SPM_BPE: {"bos": "<s>", "eos": "</s>", "unk": "<unk>"},
    Kind.UNIGRAM: {"bos": "<s>", "eos": "</s>", "unk": "<unk>"},
}
# The ends of a turn in the chat formats of the families that we convert.
_ENDS_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<turn|>", "<|end|>")
# Where this one ends a turn, "<|end|>" ends a message of it, and an answer goes on.
_ENDS_OF_MESSAGES = {"<|end|>": "<|return|>"}


MAX_ID_DIGITS = 10


@dataclass(frozen=True)
class ConfigFiles:
    """The JSON files that accompany a vocabulary, unchanged."""

    tokenizer: dict[str, Any]  # tokenizer_config.json
    special: dict[str, Any]  # special_tokens_map.json
    added: dict[str, Any]  # added_tokens.json
    generation: dict[str, Any]  # generation_config.json
    model: Mapping[str, Any]  # config.json

    def named(self, role: str) -> str | None:
        """Return the text of a role's token if a tokenizer file names it."""
        for name, content in _files(self):
            value = content.get(f"{role}_token")
            if value is not None:
                return read_added(value, 0, f"{name}: {role}_token", special=True).content
        return None

    def numbered(self, role: str) -> tuple[str, tuple[int, ...]]:
        """Return the file that gives a role's ids, and the ids; generation_config.json comes first."""
        for name, content in (("generation_config.json", self.generation), ("config.json", self.model)):
            value = content.get(f"{role}_token_id")
            if value is None:
                continue
            ids = value if isinstance(value, list) else [value]
            if not all(isinstance(identity, int) and not isinstance(identity, bool) for identity in ids):
                raise Failure(f"{name}: {role}_token_id {value!r} is not an id or a list of ids", BROKEN)
            if ids and min(ids) >= 0:  # -1 means that there is none
                return name, tuple(ids)
        return "", ()


@dataclass(frozen=True)
class Roles:
    """The ids of tokens that a runtime treats specially."""

    bos: int | None
    eos: int | None
    unk: int | None
    pad: int | None
    eot: int | None
    eog: tuple[int, ...]


def read_config_files(folder: Path, config: Mapping[str, Any]) -> ConfigFiles:
    """Read those of these files that exist."""
    return ConfigFiles(
        tokenizer=read_object_if_there(folder / "tokenizer_config.json"),
        special=read_object_if_there(folder / "special_tokens_map.json"),
        added=read_object_if_there(folder / "added_tokens.json"),
        generation=read_object_if_there(folder / "generation_config.json"),
        model=config,
    )


def added_tokens(files: ConfigFiles, document: Document) -> list[AddedToken]:
    """List the tokens that other files add to the vocabulary, or declare special."""
    found = {token.content: token for token in document.added}
    named = {token.content: token for token in _named_tokens(files)}
    for content, identity in files.added.items():
        if not isinstance(identity, int) or identity < 0:
            raise Failure(f"added_tokens.json: {content!r} has the id {identity!r}", BROKEN)
        found.setdefault(content, AddedToken(identity, content, special=content in named))
    where = "tokenizer_config.json: added_tokens_decoder"
    decoder = files.tokenizer.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise Failure(f"{where} is not a JSON object", BROKEN)
    for digits, value in decoder.items():
        if not digits.isdecimal() or len(digits) > MAX_ID_DIGITS:
            raise Failure(f"{where}: {shown(digits)!r} is not an id", BROKEN)
        token = read_added(value, int(digits), f"{where}[{digits}]", special=False)
        if found.get(token.content, token).id != token.id:
            what = f"{where}: {token.content!r} has the id {digits}, and {found[token.content].id} elsewhere"
            raise Failure(what, BROKEN)
        found[token.content] = token
    for content, token in named.items():
        if content not in found and content in document.vocab:
            flags = {flag: getattr(token, flag) for flag in ("lstrip", "rstrip", "single_word", "normalized")}
            found[content] = AddedToken(document.vocab[content], content, special=True, **flags)
    return list(found.values())


def renamed_tokens(files: ConfigFiles) -> dict[int, str]:
    """Map ids to the texts that other files give them; `added_tokens` checks what is read here."""
    decoder = files.tokenizer.get("added_tokens_decoder")
    texts = {identity: content for content, identity in files.added.items() if isinstance(identity, int)}
    for digits, value in (decoder if isinstance(decoder, dict) else {}).items():
        content = value.get("content") if isinstance(value, dict) else value
        if digits.isdecimal() and isinstance(content, str):
            texts[int(digits)] = content
    return texts


def resolve(files: ConfigFiles, document: Document, template: str | None) -> Roles:
    """Find the token of each role; a named token that is missing is a fault."""
    ids = document.ids
    roles = {role: _role(files, role, ids) for role in ROLES}
    for role, content in (document.roles or _DEFAULTS[document.kind]).items():
        # Unless a file decides it: "bos_token": null means that there is none.
        if roles[role] is None and f"{role}_token" not in files.tokenizer:
            roles[role] = ids.get(content)
    if roles["unk"] is None and document.unk_token is not None:
        roles["unk"] = ids.get(document.unk_token)
    name, stops = files.numbered("eos")
    if name == "config.json" and files.named("eos") is not None:
        stops = ()  # config.json has the class's default there, often of another vocabulary
    for identity in stops:
        _check_id(identity, ids, f"{name}: eos_token_id")
    eot = _end_of_turn(document, template, stops)
    ends = {identity for identity in (*stops, roles["eos"], eot) if identity is not None}
    return Roles(**roles, eot=eot, eog=tuple(sorted(ends)))


def implied_tokens(roles: Roles, document: Document) -> list[AddedToken]:
    """List tokens with a role that no file marks as added, so that plain text cannot produce them."""
    added = {token.id for token in document.added}
    texts = {identity: token for token, identity in document.vocab.items()}
    ids = {roles.bos, roles.eos, roles.pad, *roles.eog}
    if document.kind is not Kind.BYTE_BPE:
        ids.add(roles.unk)
    implied = sorted(texts.keys() & (ids - added))
    return [AddedToken(identity, texts[identity], special=True) for identity in implied]


def _role(files: ConfigFiles, role: str, ids: dict[str, int]) -> int | None:
    content = files.named(role)
    if content is not None:
        if content not in ids:
            raise Failure(
                f"the {role}_token {content!r} of tokenizer_config.json is not in the vocabulary", BROKEN
            )
        return ids[content]
    name, numbers = files.numbered(role)
    if not numbers or role == "unk":
        return None
    _check_id(numbers[0], ids, f"{name}: {role}_token_id")
    return numbers[0]


def _check_id(identity: int, ids: dict[str, int], where: str) -> None:
    highest = max(ids.values(), default=-1)
    if not 0 <= identity <= highest:
        raise Failure(f"{where} {identity} is beyond the vocabulary of {highest + 1}", BROKEN)


def _end_of_turn(document: Document, template: str | None, stops: tuple[int, ...]) -> int | None:
    added = {token.content: token.id for token in document.added}
    for content in _ENDS_OF_TURN:
        if (
            content in added
            and _ENDS_OF_MESSAGES.get(content) not in added
            and (added[content] in stops or content in (template or ""))
        ):
            return added[content]
    return None


def extra_tokens(files: ConfigFiles) -> Iterator[AddedToken]:
    """Yield the special tokens that are listed without a role."""
    for name, content in _files(files):
        for key in _LISTS:
            # A list in most releases of Transformers, an object in some of the fourth and fifth.
            value = content.get(key) or []
            if not isinstance(value, list | dict):
                raise Failure(f"{name}: {key} is neither a list nor an object", BROKEN)
            for token in value.values() if isinstance(value, dict) else value:
                yield read_added(token, 0, f"{name}: {key}", special=True)


def _named_tokens(files: ConfigFiles) -> Iterator[AddedToken]:
    for name, content in _files(files):
        for role in ROLES:
            if content.get(f"{role}_token") is not None:
                yield read_added(content[f"{role}_token"], 0, f"{name}: {role}_token", special=True)
    yield from extra_tokens(files)


def _files(files: ConfigFiles) -> tuple[tuple[str, dict[str, Any]], ...]:
    return ("tokenizer_config.json", files.tokenizer), ("special_tokens_map.json", files.special)
