"""Models that sentencepiece itself trains on this suite's strings, and what it makes of text."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any

import sentencepiece

from tests.tokenizer.strings import all_strings
from tests.tokenizer.vocabularies import new_folder, write_json

if TYPE_CHECKING:
    from pathlib import Path

_TRAINING: dict[str, Any] = {"vocab_size": 760, "hard_vocab_limit": False, "num_threads": 1, "minloglevel": 2}
_AS_LLAMA = {
    "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity", "split_digits": True,
    "remove_extra_whitespaces": False, "character_coverage": 0.99, "allow_whitespace_only_pieces": True,
    "max_sentencepiece_length": 12,
}  # fmt: skip
_AS_GEMMA = _AS_LLAMA | {
    "add_dummy_prefix": False, "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3,
    "pad_piece": "<pad>", "eos_piece": "<eos>", "bos_piece": "<bos>",
    "user_defined_symbols": [
        "<start_of_turn>", "<end_of_turn>", "<b>", *("▁" * count for count in range(2, 32)),
    ],
}  # fmt: skip
_UNIGRAM = {"model_type": "unigram", "character_coverage": 0.999}
FORMS: dict[str, dict[str, Any]] = {
    "bpe": _AS_LLAMA,
    "bpe-no-prefix": _AS_GEMMA,
    "bpe-nfkc": _AS_LLAMA | {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True},
    "bpe-unknown": _AS_LLAMA | {"byte_fallback": False},
    "unigram": _UNIGRAM,
    "unigram-plain": _UNIGRAM | {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
    "unigram-bytes": _UNIGRAM | {"byte_fallback": True},
}


@functools.cache
def model_bytes(form: str) -> bytes:
    """Train once for each form."""
    kinds = all_strings()
    texts = [
        text for kind in ("english", "chinese", "code", "scripts", "numbers", "mixed") for text in kinds[kind]
    ]
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=made, **_TRAINING, **FORMS[form]
    )
    return made.getvalue()


def trained_folder(form: str, **settings: Any) -> Path:
    """A checkpoint's folder with tokenizer.model and tokenizer_config.json, and no tokenizer.json."""
    folder = new_folder()
    (folder / "tokenizer.model").write_bytes(model_bytes(form))
    write_json(folder / "tokenizer_config.json", settings)
    return folder


@functools.cache
def processor(form: str) -> Any:
    """Sentencepiece's own reading of the model."""
    return sentencepiece.SentencePieceProcessor(model_proto=model_bytes(form))
