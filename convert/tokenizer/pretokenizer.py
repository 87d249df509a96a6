"""The pre-tokenizer of llama.cpp that splits text as a tokenizer does.

GGUF holds no regular expression for it, only a name whose splitting is compiled into llama.cpp. Its converter
finds the name by the digest of a check text's ids. That is specific to one vocabulary, and one text does not
tell all steps apart: where the steps are known, the digest only chooses among names that split as they do.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from convert.errors import Failure, shown
from convert.tokenizer.encoder import open_encoder, steps
from convert.tokenizer.imitation import SKIP_MERGES, expressions, split_differently
from convert.tokenizer.splitter import (
    BYTE_LEVEL_STEP,
    DIGITS,
    NAME_OF_DIGEST,
    NAMES_OF_STEPS,
    PUNCTUATION,
    SINGLE_DIGITS,
    STEP_OF_EXPRESSION,
    Steps,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from convert.tokenizer.file import Json

# conversion/base.py, get_vocab_base_pre.
_CHECK_TEXT = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ "
    "(multiple emojis concatenated) ✅ 🦙🦙 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 "
    "កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ ------======= нещо на Български "
    "''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? "
    "'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)


_LEAVE_OUT = "leave the gguf target out; the other formats contain these steps"


def check_digest(encoder: Tokenizer) -> str:
    """Digest the ids of the check text."""
    return hashlib.sha256(str(encoder.encode(_CHECK_TEXT).ids).encode()).hexdigest()


def identify(tokenizer_json: bytes, digest: str | None = None) -> str:
    """Return `tokenizer.ggml.pre` for a byte-level tokenizer; `digest` is that of the check text."""
    content = json.loads(tokenizer_json)
    normalizer = steps(content["normalizer"], "normalizers")
    if any(step["type"] != "NFC" for step in normalizer):
        raise Failure(
            f"tokenizer: llama.cpp does not change text as {json.dumps(normalizer, ensure_ascii=False)} does",
            _LEAVE_OUT,
        )
    by_digest = NAME_OF_DIGEST.get(digest or check_digest(open_encoder(tokenizer_json)))
    described = tuple(describe(content["pre_tokenizer"]))
    if by_digest and (described not in NAMES_OF_STEPS or _is_alike(by_digest, described, content)):
        return by_digest
    merging, skipping = NAMES_OF_STEPS.get(described, (None, None))
    skips = content["model"]["ignore_merges"]
    name, other = (skipping, merging) if skips else (merging, skipping)
    if name is None and other is not None and _merges_make_all(content):
        name = other
    if name is None:
        text = ", then ".join(described)
        start = shown(text[:60]) + ("…" if len(text) > 60 else "")
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        raise Failure(
            f'tokenizer: llama.cpp has no pre-tokenizer that splits text by "{start}" (sha256 {digest})'
            + (" and skips the merges for whole words" if skips and other else ""),
            _LEAVE_OUT,
        )
    return name


def compare(tokenizer_json: bytes, name: str) -> tuple[str, ...]:
    """List texts of ours that llama.cpp, under this name, splits in other places than a tokenizer does."""
    return split_differently(json.loads(tokenizer_json)["pre_tokenizer"], name)


def _is_alike(name: str, described: Steps, content: dict[str, Json]) -> bool:
    """Return whether llama.cpp splits by these steps under a name, and merges as the tokenizer does."""
    known = next(each for each in NAMES_OF_STEPS[described] if each)
    skips = content["model"]["ignore_merges"]
    return expressions(name) == expressions(known) and (
        skips == (name in SKIP_MERGES) or _merges_make_all(content)
    )


def _merges_make_all(content: dict[str, Json]) -> bool:
    """Return whether merges make every token, so that skipping them for a whole word changes nothing."""
    model = {**content["model"], "ignore_merges": False}
    bare = {**content, "model": model, "added_tokens": [], "normalizer": None, "pre_tokenizer": None}
    encoder = open_encoder(json.dumps({**bare, "post_processor": None}).encode())
    added = {token["content"] for token in content["added_tokens"]}
    tokens = [token for token in model["vocab"] if token not in added]
    made = encoder.encode_batch(tokens, add_special_tokens=False)
    return all(len(encoding.ids) == 1 for encoding in made)


def describe(stage: Json) -> list[str]:
    """Describe the steps of a byte-level pre-tokenizer in a line each: an expression, or what it does."""
    if stage["type"] == "Sequence":
        return [line for step in stage["pretokenizers"] for line in describe(step)]
    if stage["type"] == "ByteLevel":
        words = [BYTE_LEVEL_STEP] if stage.get("use_regex", True) else []
        return [*words, *(["a space before the text"] if stage.get("add_prefix_space", True) else [])]
    if stage["type"] == "Split" and "Regex" in stage["pattern"]:
        return [_describe_split(stage)]
    if stage["type"] == "Digits":
        return [SINGLE_DIGITS if stage.get("individual_digits") else DIGITS]
    is_punctuation = stage["type"] == "Punctuation" and stage.get("behavior") == "Contiguous"
    return [PUNCTUATION if is_punctuation else json.dumps(stage, ensure_ascii=False)]


def _describe_split(stage: dict[str, Json]) -> str:
    # Where everything matches, keeping the matches is the same as removing what is between them.
    how = (stage["behavior"], stage.get("invert", False))
    # Some files have the line ends themselves in an expression.
    expression = str(stage["pattern"]["Regex"]).replace("\r", r"\r").replace("\n", r"\n")
    if how in (("Isolated", False), ("Removed", True)):
        return STEP_OF_EXPRESSION.get(expression, expression)
    return f"{expression} ({stage['behavior']})"
