"""Hugging Face's `tokenizers`, opened on a tokenizer.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.errors import Failure

if TYPE_CHECKING:
    import tokenizers

    from convert.tokenizer.file import Json


def open_encoder(tokenizer_json: bytes, origin: str = "tokenizer.json") -> tokenizers.Tokenizer:
    """The tokenizer itself; what the library cannot read is a Failure in its own words."""
    from tokenizers import Tokenizer  # noqa: PLC0415  (planning needs none of it)

    try:
        return Tokenizer.from_str(tokenizer_json.decode("utf-8"))
    except Exception as fault:  # noqa: BLE001  (the library raises nothing more particular)
        raise Failure(f"{origin}: the tokenizers library does not take it: {fault}") from None


def steps(stage: Json, children: str) -> list[dict[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or post-processor, sequences within sequences laid flat."""
    if stage is None:
        return []
    if stage["type"] == "Sequence":
        return [step for inner in stage[children] for step in steps(inner, children)]
    return [stage]
