"""The tokens before and after a text, and the post-processor that adds them."""

from dataclasses import dataclass, replace
from typing import Any

from convert.errors import Failure
from convert.tokenizer.document import Document
from convert.tokenizer.encoder import steps
from convert.tokenizer.file import BROKEN, Json
from convert.tokenizer.model import Kind
from convert.tokenizer.special import Roles

_BYTES_ONLY = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


@dataclass(frozen=True)
class Wrapping:
    """What is put around every text."""

    add_bos: bool
    add_eos: bool
    opening: tuple[int, ...] = ()  # tokens between bos and the text


def read_wrapping(document: Document, settings: dict[str, Any], roles: Roles) -> tuple[Roles, Wrapping]:
    """Read the roles and what goes around a text; tokenizer_config.json wins, as in Transformers."""
    before, after = _around(document)
    if roles.bos is None and before:
        roles = replace(roles, bos=before[0])
    if before[:1] not in ([], [roles.bos]) or after not in ([], [roles.eos]):
        what = (
            f"{document.origin}: post_processor puts around a text what is neither bos before nor eos after"
        )
        raise Failure(what, "not every format can express more than these two")
    added = []
    for role, identity, found in (("bos", roles.bos, bool(before)), ("eos", roles.eos, bool(after))):
        flag = settings.get(f"add_{role}_token")
        wanted = flag if isinstance(flag, bool) else found
        if wanted and identity is None:
            raise Failure(f"tokenizer_config.json: add_{role}_token is true, but there is no {role}_token")
        added.append(wanted)
    return roles, Wrapping(added[0], added[1], tuple(before[1:]) if added[0] else ())


def write_wrapping(document: Document, roles: Roles, wrapping: Wrapping) -> Document:
    """Return the document with a post-processor that adds just these.

    The library accepts a template with unknown tokens, and panics when it is used.
    """
    if not (wrapping.add_bos or wrapping.add_eos):
        return replace(document, post_processor=_BYTES_ONLY if document.kind is Kind.BYTE_BPE else None)
    texts = {identity: content for content, identity in document.ids.items()}
    first = [texts[roles.bos]] if wrapping.add_bos and roles.bos is not None else []
    before = first + [texts[identity] for identity in wrapping.opening]
    after = [texts[roles.eos]] if wrapping.add_eos and roles.eos is not None else []

    def around(sequence: str, number: int) -> list[dict[str, Any]]:
        def special(names: list[str]) -> list[dict[str, Any]]:
            return [{"SpecialToken": {"id": name, "type_id": number}} for name in names]

        return [*special(before), {"Sequence": {"id": sequence, "type_id": number}}, *special(after)]

    template = {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": [*around("A", 0), *around("B", 1)],
        "special_tokens": {
            name: {"id": name, "ids": [document.ids[name]], "tokens": [name]}
            for name in sorted({*before, *after})
        },
    }
    return replace(document, post_processor=template)


def _around(document: Document) -> tuple[list[int], list[int]]:
    """Return the ids that the post-processor puts before and after a text."""
    ids: list[int | None] = [None]  # None is the text itself
    for step in steps(document.post_processor, "processors"):
        if step["type"] != "ByteLevel":
            items = step.get("single")
            ids = [_id_of(item, document) for item in (items if isinstance(items, list) else [])]
    if ids.count(None) != 1:
        raise Failure(f"{document.origin}: post_processor puts a text in {ids.count(None)} places", BROKEN)
    place = ids.index(None)
    return [each for each in ids[:place] if each is not None], [
        each for each in ids[place:] if each is not None
    ]


def _id_of(item: Json, document: Document) -> int | None:
    if isinstance(item, dict):
        special = item.get("SpecialToken")
        name = special.get("id") if isinstance(special, dict) else None
        if isinstance(name, str) and name in document.ids:
            return document.ids[name]
        if "Sequence" in item:
            return None
    raise Failure(f"{document.origin}: post_processor: {item!r} is neither a text nor a token", BROKEN)
