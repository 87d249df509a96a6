"""Tokens may differ where llama.cpp splits words at combining marks, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from verify.parity import TEXTS, Profile, compare

MARKED = next(place for place, text in enumerate(TEXTS) if "हिन्दी" in text)


def profile() -> Profile:
    """A model whose tokens are the letters."""
    ids = tuple(tuple(map(ord, text)) for text in (*TEXTS, TEXTS[0]))
    return Profile(64, 100, {}, ids, TEXTS, {}, None, (), {})


@pytest.mark.parametrize(("place", "passed"), [(MARKED, True), (0, False)])
def test_only_marks_may_be_split_otherwise(place: int, passed: bool) -> None:  # noqa: FBT001
    source = profile()
    found = replace(source, ids=(*source.ids[:place], (1, 2, 3), *source.ids[place + 1 :]))
    check = next(check for check in compare(found, source) if check.name == "tokenizer")
    assert check.passed is passed
    assert ("but for 1 with combining marks" in check.why) is passed


def test_text_with_marks_has_to_come_back() -> None:
    source = profile()
    ids = (*source.ids[:MARKED], (1, 2, 3), *source.ids[MARKED + 1 :])
    found = replace(source, ids=ids, texts=(*TEXTS[:MARKED], "lost", *TEXTS[MARKED + 1 :]))
    check = next(check for check in compare(found, source) if check.name == "tokenizer")
    assert not check.passed
