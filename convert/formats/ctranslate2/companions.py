"""The small files of a folder: CTranslate2's config and vocabulary, and the tokenizer's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from convert.formats.hf.companions import generation_config, to_json, tokenizer_files
from convert.model.families import family

if TYPE_CHECKING:
    from convert.model.source import Model
    from convert.tokenizer import Tokenizer

# CTranslate2's own, which it takes where config.json says nothing: of layer norms.
USUAL_EPSILON = 1e-5


def files(model: Model) -> dict[str, bytes]:
    """Write them all."""
    return {
        "config.json": _dumped(_config(model), ends=True),
        "vocabulary.json": _dumped(vocabulary(model.tokenizer, model.decoder.vocab_size)),
        # By which texts are read, turns laid out, and answers ended.
        "generation_config.json": to_json(generation_config(model)),
        **tokenizer_files(model.tokenizer),
    }


def vocabulary(tokenizer: Tokenizer, size: int) -> list[str]:
    """List the tokens by their ids; rows without one get the names that the converter gives these."""
    content = json.loads(tokenizer.json)
    model = content["model"]["vocab"]
    pieces = model.items() if isinstance(model, dict) else ((each[0], at) for at, each in enumerate(model))
    found = {identity: text for text, identity in pieces}
    found |= {each["id"]: each["content"] for each in content.get("added_tokens") or ()}
    if (beyond := max(found, default=0) - size + 1) > 0:
        raise Failure(
            f"the tokenizer has {beyond} tokens more than the embeddings have rows, and CTranslate2 wants a "
            "row for each",
            "take another format",
        )
    spare = (f"<extra_id_{number}>" for number in range(size))
    return [found[identity] if identity in found else next(spare) for identity in range(size)]


def _config(model: Model) -> dict[str, Any]:
    settings, norm = model.tokenizer.config, model.decoder.final_norm
    facts = family(model.decoder.family).ctranslate2
    bos, eos, unk, pad = (_text(settings.get(f"{role}_token")) for role in ("bos", "eos", "unk", "pad"))
    is_usual = norm.kind == "layer" and norm.eps == USUAL_EPSILON
    return {
        "bos_token": pad if bos is None and facts and facts.begins_with_padding else bos,
        "eos_token": eos,
        "unk_token": "" if unk is None and norm.kind == "rms" else unk,
        "layer_norm_epsilon": None if is_usual else norm.eps,
        # As the converter says of every model.
        "multi_query_attention": True,
    }


def _text(token: object) -> str | None:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _dumped(content: object, *, ends: bool = False) -> bytes:
    return json.dumps(content, indent=2, sort_keys=True).encode() + (b"\n" if ends else b"")
