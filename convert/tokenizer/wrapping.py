"""Whether a text gets a token before it and after it, and the post-processor that says so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from convert.tokenizer.encoder import steps
from convert.tokenizer.model import Kind

if TYPE_CHECKING:
    from convert.tokenizer.document import Document
    from convert.tokenizer.special import Roles

_BYTES_ONLY = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def read_wrapping(document: Document, settings: dict[str, Any], roles: Roles) -> tuple[bool, bool]:
    """(bos before, eos after); tokenizer_config.json's word wins, as it does in Transformers."""
    before, after = _from_post_processor(document, roles)
    answers = []
    for role, identity, found in (("bos", roles.bos, before), ("eos", roles.eos, after)):
        said = settings.get(f"add_{role}_token")
        wanted = said if isinstance(said, bool) else found
        if wanted and identity is None:
            raise Failure(f"tokenizer_config.json: add_{role}_token is true, and there is no {role}_token")
        answers.append(wanted)
    return answers[0], answers[1]


def write_wrapping(document: Document, roles: Roles, *, add_bos: bool, add_eos: bool) -> Document:
    """The document with a post-processor that does just this."""
    if (add_bos, add_eos) == _from_post_processor(document, roles):
        return document
    if not (add_bos or add_eos):
        return replace(document, post_processor=_BYTES_ONLY if document.kind is Kind.BYTE_BPE else None)
    texts = {identity: content for content, identity in document.ids.items()}
    names = (texts[roles.bos] if add_bos and roles.bos is not None else None,
             texts[roles.eos] if add_eos and roles.eos is not None else None)  # fmt: skip

    def around(sequence: str, place: int) -> list[dict[str, Any]]:
        inner = {"Sequence": {"id": sequence, "type_id": place}}
        first, last = ([{"SpecialToken": {"id": name, "type_id": place}}] if name else [] for name in names)
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


def _from_post_processor(document: Document, roles: Roles) -> tuple[bool, bool]:
    before = after = False
    for step in steps(document.post_processor, "processors"):
        if step["type"] == "ByteLevel":
            continue
        ids = [
            document.ids.get(item["SpecialToken"]["id"]) if "SpecialToken" in item else "text"
            for item in step.get("single", [])
        ]
        before, after = ids[:1] == [roles.bos], ids[-1:] == [roles.eos]
        if step["type"] != "TemplateProcessing" or ids[before : len(ids) - after] != ["text"]:
            raise Failure(
                f"{document.origin}: post_processor {step['type']} puts more around a text than "
                "the first token before it and the last one after it"
            )
    return before, after
