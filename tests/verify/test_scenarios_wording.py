"""How answers are read: which material they cite, and words and numbers in every form."""

from __future__ import annotations

import pytest

from verify.scenarios.checks.citation import cited
from verify.scenarios.wording import chinese_number, fold, has, numbers, sentences


@pytest.mark.parametrize(
    ("text", "numbers_cited"),
    [
        ("根据资料2", {2}), ("资料二", {2}), ("资料 10", {10}), ("第二份资料", {2}), ("第2条。", {2}),
        ("【3】", {3}),
        ("资料1和资料3", {1, 3}), ("资料1、2", {1, 2}), ("资料2020年显示", set()), ("资料：3人参加", set()),
        ("资料一般", set()), ("材料十分丰富", set()),
        ("[2]", {2}), ("material 2", {2}), ("Material #3.", {3}), ("the second material", {2}),
        ("materials 1 and 2", {1, 2}), ("materials 1, 2 and 3", {1, 2, 3}), ("document [4]", {4}),
        ("the first and second materials", {1, 2}), ("the 2nd source", {2}), ("no material", set()),
        ("material 1 does not say", set()), ("资料1没有提到", set()),
    ],
)  # fmt: skip
def test_citations_are_read_in_every_spelling(text: str, numbers_cited: set[int]) -> None:
    assert cited(text) == numbers_cited


@pytest.mark.parametrize(
    ("text", "wanted", "stands"),
    [
        ("长１，０００米", "1000米", True), ("长 1 000 米", "1000米", True), ("一千米", "1000米", True),
        ("10000米", "1000米", False), ("1000.5米", "1000", False), ("2012年", "12", False),
        ("一九五七年", "1957年", True),
        ("三万五千人", "35000人", True), ("Zhāng Wěi", "zhāng wěi", True), ("don’t", "don't", True),
        ("", "1", False),
    ],
)  # fmt: skip
def test_words_are_found_in_every_form(text: str, wanted: str, *, stands: bool) -> None:
    assert has(text, wanted) == stands


def test_numbers_and_sentences() -> None:
    values = {
        "十": 10,
        "二十三": 23,
        "一百零五": 105,
        "三万五千": 35_000,
        "一九〇〇": 1900,
        "一亿二千万": 120_000_000,
    }
    assert {text: chinese_number(text) for text in values} == values
    assert numbers("1.5万人，二十三个，3,000元，第一") == {"1.5", "15000", "23", "3000"}
    assert sentences("It is 3.5 m. Right!\n对。好") == ["It is 3.5 m.", "Right!", "对。", "好"]
    assert fold("## **Ａ**  b") == "a b"
