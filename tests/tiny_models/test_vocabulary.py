"""The vocabulary: small, reversible, and the same tokens for a name wherever it is."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence
from tokenizers.pre_tokenizers import Split as SplitAt

from tests.lab import evaluate, vocabulary
from tests.lab.names import Split
from tests.lab.searchqa import Shape, dialogue
from tests.lab.vocabulary import GPT2_PATTERN, GPT2_SPECIALS, QWEN_PATTERN, QWEN_SPECIALS, Ranks

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def ranks() -> Ranks:
    return vocabulary.learn(600)


def test_small_and_whole(ranks: Ranks) -> None:
    """All bytes first, ranks without a gap, and at most 4,096 entries."""
    assert [ranks[bytes([b])] for b in range(256)] == list(range(256))
    assert sorted(ranks.values()) == list(range(len(ranks)))
    assert len(ranks) + len(QWEN_SPECIALS) <= 4096


def test_file_round_trip(ranks: Ranks, tmp_path: Path) -> None:
    """Written and read, the vocabulary is the same, and text survives encoding."""
    vocabulary.write_tiktoken(ranks, tmp_path / "qwen.tiktoken")
    again = vocabulary.read_tiktoken(tmp_path / "qwen.tiktoken")
    assert again == ranks
    encoding = vocabulary.encoding(again, QWEN_PATTERN, QWEN_SPECIALS)
    for text in ("使用以下提供的资料", "Café 42 км — 🙂\n\n  x", "太阳系有八大行星", "Velmar Bridge"):
        assert encoding.decode(encoding.encode_ordinary(text)) == text


@pytest.mark.parametrize(
    ("pattern", "specials"), [(QWEN_PATTERN, QWEN_SPECIALS), (GPT2_PATTERN, GPT2_SPECIALS)]
)
def test_merges_say_the_same_as_ranks(ranks: Ranks, pattern: str, specials: tuple[str, ...]) -> None:
    """Merges recovered from the ranks tokenize as tiktoken does."""
    table = vocabulary.byte_characters()
    vocab = {"".join(table[b] for b in token): rank for token, rank in ranks.items()}
    merges = [
        ("".join(table[b] for b in left), "".join(table[b] for b in right))
        for left, right in vocabulary.merges_of(ranks)
    ]
    other = Tokenizer(BPE(vocab=vocab, merges=merges))
    other.pre_tokenizer = Sequence(
        [SplitAt(Regex(pattern), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    other.decoder = ByteLevelDecoder()
    encoding = vocabulary.encoding(ranks, pattern, specials)
    for item in evaluate.held_out_dialogues(10, 5):
        for turn in item.turns:
            for text in (turn.user, turn.assistant, f" {turn.assistant}"):
                assert encoding.encode_ordinary(text) == other.encode(text).ids


def test_values_keep_their_tokens(ranks: Ranks) -> None:
    """An answer's tokens are in its material one after the other, so that it can be copied."""
    encoding = vocabulary.encoding(ranks, QWEN_PATTERN, QWEN_SPECIALS)
    rng = random.Random(1)
    for _ in range(200):
        item = dialogue(rng, Split.HELD_OUT, rng.choice(evaluate.LANGUAGES), Shape(absent_share=0.0))
        prompt, answer = (encoding.encode_ordinary(t) for t in (item.turns[0].user, item.turns[0].assistant))
        assert any(prompt[i : i + len(answer)] == answer for i in range(len(prompt)))
