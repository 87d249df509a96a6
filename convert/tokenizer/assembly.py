"""The canonical tokenizer, built from a checkpoint's files."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from convert.model.families import family
from convert.tokenizer import score, special, wrapping
from convert.tokenizer.encoder import open_encoder
from convert.tokenizer.model import Kind, Tokenizer, TokenType
from convert.tokenizer.pretokenizer import check_digest
from convert.tokenizer.sanity import check_document
from convert.tokenizer.source import find_document
from convert.tokenizer.template import find_template

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import tokenizers

    from convert.tokenizer.document import Document

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# conversion/base.py, does_token_look_special: some families do not mark these as special, and llama.cpp
# treats a few of them by their text, whatever their type.
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", re.DOTALL)
_UNLIMITED_LENGTH = 1_000_000_000  # Transformers writes 1e30 for "no limit"


def load(folder: Path, model_type: str, config: Mapping[str, Any], vocab_size: int) -> Tokenizer:
    """Read the tokenizer of the checkpoint in `folder`; `vocab_size` counts the embedding's rows."""
    files = special.read_config_files(folder, config)
    document = find_document(folder, model_type, files, vocab_size)
    document = document.with_added(special.added_tokens(files, document))
    check_document(document)
    highest = max(document.ids.values())
    if highest >= vocab_size:
        what = f"{document.origin}: token {highest} is beyond the {vocab_size} rows of the model's embedding"
        raise Failure(what, "use a tokenizer and weights of the same model")
    template = find_template(folder, model_type, files)
    roles = special.resolve(files, document, template)
    if family(model_type).tokenizer.ends_turns and template is not None and roles.eot is not None:
        roles = replace(roles, eos=roles.eot)
    roles, around = wrapping.read_wrapping(document, files.tokenizer, roles)
    document = document.with_added(special.implied_tokens(roles, document))
    document = wrapping.write_wrapping(document, roles, around)
    tokenizer_json = document.to_bytes()
    encoder = open_encoder(tokenizer_json, document.origin)
    _check_ids(encoder, document)
    tokens, types = _list(document, vocab_size, roles.unk)
    return Tokenizer(
        kind=document.kind,
        tokens=tokens,
        types=types,
        merges=document.merges,
        scores=_scores(folder, document, types),
        added=document.added,
        bos_id=roles.bos,
        eos_id=roles.eos,
        unk_id=roles.unk,
        pad_id=roles.pad,
        eot_id=roles.eot,
        eog_ids=roles.eog,
        add_bos=around.add_bos,
        add_eos=around.add_eos,
        opening=around.opening,
        chat_template=template,
        json=tokenizer_json,
        config=_config(files, roles, tokens, template, around),
        check_digest=_check_digest(encoder, document),
    )


def _check_ids(encoder: tokenizers.Tokenizer, document: Document) -> None:
    """Check that added tokens keep their ids in the library, which counts on from the vocabulary."""
    for token in document.added:
        found = encoder.token_to_id(token.content)
        if found != token.id:
            what = f"{document.origin}: the id {token.id} of {token.content!r} does not follow the others"
            raise Failure(what, f"the tokenizers library would make it {found}")


def _check_digest(encoder: tokenizers.Tokenizer, document: Document) -> str | None:
    """Digest the check text here, where the encoder is open; what goes wrong with it concerns GGUF alone."""
    with suppress(Exception):
        return check_digest(encoder) if document.kind is Kind.BYTE_BPE else None
    return None


def _list(
    document: Document, vocab_size: int, unk_id: int | None
) -> tuple[tuple[str, ...], tuple[TokenType, ...]]:
    """List the text and type of every id, with fillers for ids without a token."""
    is_spm = document.kind is not Kind.BYTE_BPE
    tokens: list[str | None] = [None] * vocab_size
    types = [TokenType.UNUSED] * vocab_size
    for token, identity in document.vocab.items():
        if types[identity] is TokenType.BYTE:
            continue  # its character is an alias
        tokens[identity] = token
        types[identity] = TokenType.BYTE if is_spm and _BYTE.fullmatch(token) else TokenType.NORMAL
    for added in document.added:
        tokens[added.id] = added.content
        is_control = added.special or _LOOKS_SPECIAL.fullmatch(added.content)
        types[added.id] = TokenType.CONTROL if is_control else TokenType.USER_DEFINED
    if is_spm and unk_id is not None:
        types[unk_id] = TokenType.UNKNOWN
    known = document.ids
    filled = tuple(
        _padding(identity, known) if token is None else token for identity, token in enumerate(tokens)
    )
    return filled, tuple(types)


def _padding(identity: int, known: Mapping[str, int]) -> str:
    name = f"[PAD{identity}]"
    while name in known:
        name = f"[{name}]"
    return name


def _scores(folder: Path, document: Document, types: tuple[TokenType, ...]) -> tuple[float, ...] | None:
    """Take scores from tokenizer.model if there is one, since the merges were made from those."""
    if document.kind is Kind.BYTE_BPE:
        return None
    if document.scores:
        return (*document.scores, *(0.0,) * (len(types) - len(document.scores)))
    scores = score.from_merges(document.merges, document.vocab, len(types))
    path = folder / "tokenizer.model"
    if path.is_file():
        tokens = {identity: token for token, identity in document.vocab.items()}
        for identity, (piece, value) in enumerate(score.read_scores(path)):
            if identity >= len(types) or types[identity] is not TokenType.NORMAL:
                continue
            if tokens[identity] != piece:
                other = f"{tokens[identity]!r} in {document.origin}"
                what = f"token {identity} is {piece!r} in {path.name}, and {other}"
                raise Failure(what, "delete the one of the two files that is not of this model")
            scores[identity] = value
    return tuple(scores)


def _config(
    files: special.ConfigFiles,
    roles: special.Roles,
    tokens: tuple[str, ...],
    template: str | None,
    around: wrapping.Wrapping,
) -> dict[str, Any]:
    """Write tokenizer_config.json for a class that follows tokenizer.json in every release."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": _max_length(files),
    }
    if not around.opening:  # with these, Transformers would put just bos and eos around a text
        config |= {"add_bos_token": around.add_bos, "add_eos_token": around.add_eos}
    for role in special.ROLES:
        is_disabled = f"{role}_token" in files.tokenizer and files.tokenizer[f"{role}_token"] is None
        identity = getattr(roles, role)
        config[f"{role}_token"] = None if is_disabled or identity is None else tokens[identity]
    extra = [token.content for token in special.extra_tokens(files)]
    if extra:
        config["additional_special_tokens"] = extra
    if template is not None:
        config["chat_template"] = template
    return config


def _max_length(files: special.ConfigFiles) -> int | None:
    candidates = (
        files.tokenizer.get("model_max_length"),
        *(files.model.get(key) for key in ("max_position_embeddings", "n_positions", "seq_length")),
    )
    limits = (each for each in candidates if isinstance(each, int) and 0 < each < _UNLIMITED_LENGTH)
    return next(limits, None)
