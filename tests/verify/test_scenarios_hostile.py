"""Text that a model chose ends no verification: every check comes back, with a verdict, in time."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from tests.verify.answer_cases import EN, ZH
from tests.verify.test_scenarios_running import PACKS, STYLE, Fake, failed, oracle
from verify.scenarios.checks import CHECKS, Context, Verdict
from verify.scenarios.checks.citation import cited
from verify.scenarios.running import run
from verify.scenarios.tidying import MAX_CHARS, tidy_chat, tidy_completion
from verify.scenarios.wording import fold, has, numbers, terms

LONG = [
    "万" * 1100,
    "一" * 4400,
    "亿" * 540,
    "9" * 5000 + "万",
    "see source ſeven",
    "参考资料1" * 3000,
    "the first and second materials, " * 3000,
    "\n" * 40_000 + "x",
    " " * 20_000 + "a",
    ">" * 5000,
    "a " * 16_000,
    "**" * 20_000,
]
IDS = [text[:8].strip() or "blank" for text in LONG]


def judge_all(text: str) -> None:
    """Make every check of this answer, in the better part of a second each."""
    began = time.process_time()
    for tidied in {tidy_chat(text)[0], tidy_completion(text, STYLE, text)[0]}:
        for seen in (ZH, EN):
            context = replace(seen, answer=tidied, earlier=(tidied[:-1] or "x",))
            for check in CHECKS.values():
                options = TypeAdapter(check.options).validate_json(json.dumps(check.example))
                assert isinstance(check.judge(context, options), Verdict)
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    "text", ["万" * 400, "一" * 300, "亿" * 540, "see source ſeven", "\n" * 40_000 + "x"]
)
def test_every_check_comes_back(text: str) -> None:
    judge_all(text)


@pytest.mark.slow
@pytest.mark.parametrize("text", LONG, ids=IDS)
def test_every_check_comes_back_from_long_answers(text: str) -> None:
    judge_all(text)


def test_runs_of_white_space_do_not_cost_their_square() -> None:
    began = time.process_time()
    assert fold("a" + " " * 200_000 + "b") == "a b"
    assert fold("大" + " " * 200_000 + "桥") == "大桥"
    assert time.process_time() - began < 1


def test_numerals_without_end_are_no_numbers() -> None:
    assert numbers("一" * 4400 + "。十二") == {"12"}
    assert not has("万" * 1100, "1")
    assert len(terms("亿" * 540)) == 540


def test_another_case_of_a_letter_is_read() -> None:
    assert cited("see source ſeven") == {7}


def test_a_long_answer_is_shortened_and_says_so() -> None:
    text, steps = tidy_chat("x" * (MAX_CHARS + 1))
    assert len(text) == MAX_CHARS
    assert [step.name for step in steps] == ["shortened"]


def test_a_check_that_raises_is_a_failed_check_of_that_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(context: Context, _: object) -> Verdict:
        raise KeyError(context.answer[:5])

    name = "no_echo"
    monkeypatch.setitem(CHECKS, name, replace(CHECKS[name], judge=breaks))
    pack = PACKS[0]
    transcripts = run([pack], Fake(oracle(pack)))
    assert failed(transcripts) == {name}
    assert len(transcripts) == len(pack.dialogues)
    first = next(check for check in transcripts[0].checks if check.name == name)
    assert first.why.startswith("the check broke on this answer: KeyError")
