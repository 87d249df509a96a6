"""tiktoken's ranks: the merges that they imply are those that BPE itself arrives at."""

from __future__ import annotations

import base64
import random
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.errors import Failure
from convert.tokenizer.rank import read_ranks, recover_merges
from tests.tokenizer.vocabularies import qwen_folder

if TYPE_CHECKING:
    from pathlib import Path


def bpe(token: bytes, ranks: dict[bytes, int], limit: int) -> list[bytes]:
    """Merge as tiktoken does, with ranks below the limit only."""
    parts = [bytes([byte]) for byte in token]
    while True:
        found = [
            (rank, place)
            for place in range(len(parts) - 1)
            if (rank := ranks.get(parts[place] + parts[place + 1], limit)) < limit
        ]
        if not found:
            return parts
        place = min(found)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


def test_merges_of_a_real_vocabulary_are_those_of_bpe() -> None:
    ranks = read_ranks(qwen_folder() / "qwen.tiktoken")
    started = time.process_time()
    merges = recover_merges(ranks, "qwen.tiktoken")
    assert time.process_time() - started < 3
    assert len(merges) == 151643 - 256
    assert [ranks[left + right] for left, right in merges] == list(range(256, 151643))
    seeded = random.Random(0)
    for left, right in seeded.sample(merges, 6000):
        assert bpe(left + right, ranks, ranks[left + right]) == [left, right]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=60), st.integers(0, 3))
def test_merges_of_any_vocabulary_are_those_of_bpe(pairs: list[tuple[int, int]], shift: int) -> None:
    """Few letters make many ways to cut a token, runs of one letter among them."""
    letters = [b"a", b"b", b"c"]
    tokens = [*letters]
    expected = []
    # Letters need not rank first: in some vocabularies they stand between the words.
    ranks = {letter: 1000 * shift + place for place, letter in enumerate(letters)}
    for left, right in pairs:
        one, other = tokens[left % len(tokens)], tokens[right % len(tokens)]
        rank = 500 + len(tokens)
        if one + other in ranks or bpe(one + other, ranks | {one + other: rank}, rank) != [one, other]:
            continue
        if max(ranks[one], ranks[other]) > rank:
            continue
        tokens.append(one + other)
        ranks[one + other] = rank
        expected.append((one, other))
    assert recover_merges(ranks, "x.tiktoken") == expected


def test_a_cut_into_two_tokens_is_not_enough() -> None:
    """The merge of "ab" comes first, so "abc" is "ab" and "c", though "a" and "bc" are tokens too."""
    ranks = {b"a": 0, b"b": 1, b"c": 2, b"ab": 3, b"bc": 4, b"abc": 5}
    assert recover_merges(ranks, "x") == [(b"a", b"b"), (b"b", b"c"), (b"ab", b"c")]


def test_a_run_is_merged_from_the_left() -> None:
    ranks = {b"a": 0, b"aa": 1, b"aaa": 2, b"aaaa": 3, b"aaaaa": 4}
    # Five: aa aa a, and then the lower rank, which is the pair on the right.
    assert recover_merges(ranks, "x") == [(b"a", b"a"), (b"aa", b"a"), (b"aa", b"aa"), (b"aa", b"aaa")]


def test_letters_may_rank_last() -> None:
    ranks = {b"ab": 700, b"a": 0, b"b": 600, b"abb": 800}
    assert recover_merges(ranks, "x") == [(b"a", b"b"), (b"ab", b"b")]


def test_a_token_that_nothing_builds_is_named() -> None:
    with pytest.raises(Failure, match=r"x\.tiktoken: token 5 \(b'abc'\) cannot be built"):
        recover_merges({b"a": 0, b"b": 1, b"c": 2, b"abc": 5}, "x.tiktoken")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"***= 1", "x.tiktoken:2: not a base64 token and its rank"),
        (b"YQ==", "x.tiktoken:2: not a base64 token and its rank"),
        (b"YQ== one", "x.tiktoken:2: not a base64 token and its rank"),
        (b"\xff\xfe 1", "x.tiktoken:2: not a base64 token and its rank"),
        (b"YQ== -1", "x.tiktoken:2: an empty token or a negative rank"),
        (b"IQ== 1", "x.tiktoken:2: a token or rank that an earlier line has"),
        (b"YQ== 0", "x.tiktoken:2: a token or rank that an earlier line has"),
    ],
    ids=["not base64", "no rank", "a word for a rank", "not UTF-8", "negative", "token twice", "rank twice"],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    (tmp_path / "x.tiktoken").write_bytes(base64.b64encode(b"!") + b" 0\n" + line + b"\n")
    with pytest.raises(Failure) as caught:
        read_ranks(tmp_path / "x.tiktoken")
    assert caught.value.message == said


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tiktoken").write_bytes(b"\n")
    with pytest.raises(Failure, match="no ranks in it"):
        read_ranks(tmp_path / "x.tiktoken")
