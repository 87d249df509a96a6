"""The steps that llama.cpp knows, as a tokenizer.json has them, and vocabularies trained behind them."""

from __future__ import annotations

import functools
import json
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer

from convert.tokenizer import Tokenizer as Ours
from convert.tokenizer import load
from convert.tokenizer.splitter import (
    BYTE_LEVEL_STEP,
    DIGITS,
    NAMES_OF_STEPS,
    PUNCTUATION,
    SINGLE_DIGITS,
    Steps,
)  # fmt: skip
from tests.tokenizer.strings import all_strings
from tests.tokenizer.vocabularies import new_folder, write_json

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_STEPS: dict[str, dict[str, Any]] = {
    BYTE_LEVEL_STEP: {**_BYTE_LEVEL, "use_regex": True},
    SINGLE_DIGITS: {"type": "Digits", "individual_digits": True},
    DIGITS: {"type": "Digits", "individual_digits": False},
    PUNCTUATION: {"type": "Punctuation", "behavior": "Contiguous"},
}
KNOWN = {name: steps for steps, names in NAMES_OF_STEPS.items() for name in names if name}


def spelled(steps: Steps) -> dict[str, Any]:
    """Write steps as a tokenizer.json does."""
    made = [
        _STEPS.get(step)
        or {"type": "Split", "pattern": {"Regex": step}, "behavior": "Isolated", "invert": False}
        for step in steps
    ]
    last = [] if BYTE_LEVEL_STEP in steps else [{**_BYTE_LEVEL, "use_regex": False}]
    return {"type": "Sequence", "pretokenizers": [*made, *last]}


@functools.cache
def trained(steps: Steps, *, skips_merges: bool) -> Ours:
    """Train a byte-level vocabulary on text that these steps split."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=skips_merges))
    content = json.loads(tokenizer.to_str()) | {"pre_tokenizer": spelled(steps)}
    tokenizer = Tokenizer.from_str(json.dumps(content))
    trainer = BpeTrainer(
        vocab_size=1200,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
    )
    tokenizer.train_from_iterator([text for texts in all_strings().values() for text in texts], trainer)
    folder = new_folder()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"eos_token": "<|endoftext|>"})
    return load(folder, "llama", {}, 1200)
