"""The tokens before and after a text, and the post-processor that adds them."""

from dataclasses import replace
from typing import Any

from convert.errors import Failure
from convert.tokenizer.document import Document
from convert.tokenizer.encoder import steps
from convert.tokenizer.file import BROKEN, Json
from convert.tokenizer.model import Kind
from convert.tokenizer.special import Roles

_BYTES_ONLY = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def read_wrapping(document: Document, settings: dict[str, Any], roles: Roles) -> tuple[Roles, bool, bool]:
    """Read the roles and whether bos and eos are added; tokenizer_config.json wins, as in Transformers."""
    first, last = _around(document, roles)
    if roles.bos is None:
        roles = replace(roles, bos=first)
    added = []
    for role, identity, found in (("bos", roles.bos, first), ("eos", roles.eos, last)):
        flag = settings.get(f"add_{role}_token")
        wanted = flag if isinstance(flag, bool) else found is not None
        if wanted and identity is None:
            raise Failure(f"tokenizer_config.json: add_{role}_token is true, but there is no {role}_token")
        added.append(wanted)
    return roles, added[0], added[1]


def write_wrapping(document: Document, roles: Roles, *, add_bos: bool, add_eos: bool) -> Document:
    """Return the document with a post-processor that adds just these.

    The library accepts a template with unknown tokens, and panics when it is used.
    """
    if not (add_bos or add_eos):
        return replace(document, post_processor=_BYTES_ONLY if document.kind is Kind.BYTE_BPE else None)
    texts = {identity: content for content, identity in document.ids.items()}
    names = (texts[roles.bos] if add_bos and roles.bos is not None else None,
             texts[roles.eos] if add_eos and roles.eos is not None else None)  # fmt: skip

    def around(sequence: str, number: int) -> list[dict[str, Any]]:
        inner = {"Sequence": {"id": sequence, "type_id": number}}
        first, last = ([{"SpecialToken": {"id": name, "type_id": number}}] if name else [] for name in names)
        return [*first, inner, *last]

    template = {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": [*around("A", 0), *around("B", 1)],
        "special_tokens": {
            name: {"id": name, "ids": [document.ids[name]], "tokens": [name]}
            for name in sorted({name for name in names if name})
        },
    }
    return replace(document, post_processor=template)


def _around(document: Document, roles: Roles) -> tuple[int | None, int | None]:
    """Return the ids that the post-processor puts before and after a text."""
    ids: list[int | None] = [None]  # None is the text itself
    for step in steps(document.post_processor, "processors"):
        if step["type"] != "ByteLevel":
            items = step.get("single")
            ids = [_id_of(item, document) for item in (items if isinstance(items, list) else [])]
    if None in ids and len(ids) <= 3:
        before, after = ids[: ids.index(None)], ids[ids.index(None) + 1 :]
        if before in ([], [roles.bos], [ids[0]] * (roles.bos is None)) and after in ([], [roles.eos]):
            return next(iter(before), None), next(iter(after), None)
    what = f"{document.origin}: post_processor puts more around a text than bos before it and eos after it"
    raise Failure(what, "not every format can express more than these two")


def _id_of(item: Json, document: Document) -> int | None:
    if isinstance(item, dict):
        special = item.get("SpecialToken")
        name = special.get("id") if isinstance(special, dict) else None
        if isinstance(name, str) and name in document.ids:
            return document.ids[name]
        if "Sequence" in item:
            return None
    raise Failure(f"{document.origin}: post_processor: {item!r} is neither a text nor a token", BROKEN)
