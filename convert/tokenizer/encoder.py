"""The `tokenizers` library, opened on a tokenizer.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.errors import Failure

if TYPE_CHECKING:
    import tokenizers

    from convert.tokenizer.file import Json


def open_encoder(tokenizer_json: bytes, origin: str = "tokenizer.json") -> tokenizers.Tokenizer:
    """Open the tokenizer; what the library refuses is a Failure with its message."""
    from tokenizers import Tokenizer  # noqa: PLC0415  (not needed for planning)

    try:
        return Tokenizer.from_str(tokenizer_json.decode("utf-8"))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as fault:  # noqa: BLE001  (the library raises nothing more specific, and panics)
        raise Failure(f"{origin}: the tokenizers library refuses it: {fault}") from None


def steps(stage: Json, children: str) -> list[dict[str, Any]]:
    """List the steps of a normalizer, pre-tokenizer or post-processor, with nested sequences flattened."""
    if stage is None:
        return []
    if stage["type"] == "Sequence":
        return [step for inner in stage[children] for step in steps(inner, children)]
    return [stage]
