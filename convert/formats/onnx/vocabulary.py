"""The tokenizer's files as onnxruntime-genai reads them, and where it departs from the source."""

import json
from functools import lru_cache

from convert.deviation import Deviation
from convert.errors import Failure
from convert.formats.hf.companions import to_json, tokenizer_files
from convert.tokenizer import Kind, Tokenizer

# The one class whose text onnxruntime-genai does not cut at words before it merges pieces of a sentence.
WHOLE_TEXT_CLASS = "GemmaTokenizer"


def files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """Take the files that everyone reads, and mend what onnxruntime-genai would stumble over."""
    # A null where it expects a number or a string is refused.
    settings = {name: value for name, value in tokenizer.config.items() if value is not None}
    written = tokenizer_files(tokenizer)
    if tokenizer.kind is not Kind.BYTE_BPE:
        _check(tokenizer)
        settings["tokenizer_class"] = WHOLE_TEXT_CLASS
        written["tokenizer.json"] = _with_pairs(tokenizer.json)
    return {**written, "tokenizer_config.json": to_json(settings)}


def _check(tokenizer: Tokenizer) -> None:
    """Refuse what onnxruntime-genai reads as something else."""
    hint = "leave the onnx target out; the other formats contain these steps"
    if tokenizer.kind is Kind.UNIGRAM:
        raise Failure("tokenizer: onnxruntime-genai does not read this kind of vocabulary (unigram)", hint)
    if tokenizer.spacing.charsmap or tokenizer.spacing.collapses:
        how = "replace letters" if tokenizer.spacing.charsmap else "trim spaces"
        raise Failure(f"tokenizer: onnxruntime-genai does not {how} before it merges pieces", hint)


def deviations(tokenizer: Tokenizer) -> tuple[Deviation, ...]:
    """Say where its reading of text differs."""
    found = []
    if tokenizer.add_bos:
        found.append(
            (
                "first token",
                "before every text",
                "only where the chat template writes it",
                "onnxruntime-genai adds none unless its tokenizer's option add_special_tokens is set",
            )
        )
    if _normalizes(tokenizer.json):
        found.append(
            (
                "letters with accents",
                "joined (NFC)",
                "as they come",
                "onnxruntime-genai does not normalize",
            )
        )
    if tokenizer.kind is Kind.BYTE_BPE:
        found.append(
            (
                "white space",
                "split as by the source",
                "split otherwise at lines of spaces alone and at U+0085",
                "onnxruntime-genai has its own reading of the expression that splits text",
            )
        )
    return tuple(Deviation(f"tokenizer: {what}", *words) for what, *words in found)


@lru_cache(1)
def _normalizes(tokenizer_json: bytes) -> bool:
    return "NFC" in json.dumps(json.loads(tokenizer_json).get("normalizer"))


def _with_pairs(tokenizer_json: bytes) -> bytes:
    """Write merges as pairs: as lines of text, those with a line break in them would be read wrong."""
    content = json.loads(tokenizer_json)
    content["model"]["merges"] = [
        merge.split(" ") if isinstance(merge, str) else merge for merge in content["model"]["merges"]
    ]
    return (json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
