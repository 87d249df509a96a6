"""Each check with answers that pass and answers that fail, in both languages."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import pytest
from pydantic import TypeAdapter

from tests.verify.answer_cases import ANSWERS, EN, ZH
from tests.verify.lesson_cases import LESSONS, REVISIONS
from verify.scenarios.checks import CHECKS, Context
from verify.scenarios.wording import Language

if TYPE_CHECKING:
    from verify.scenarios.checks import Verdict

CASES = [*ANSWERS, *LESSONS]
SET = True


def case_id(name: str, language: Language, *, passes: bool) -> str:
    """Say which check is held; pytest numbers the cases of one name."""
    return f"{name}-{language}-{'passes' if passes else 'fails'}"


def judged(name: str, options: Any, seen: Context) -> Verdict:
    check = CHECKS[name]
    # As a pack gives them: lists for tuples, mappings for models.
    return check.judge(seen, TypeAdapter(check.options).validate_json(json.dumps(options)))


@pytest.mark.parametrize(
    ("name", "options", "seen", "answer", "passes"),
    CASES,
    ids=[case_id(name, seen.language, passes=passes) for name, _, seen, _, passes in CASES],
)
def test_check(name: str, options: Any, seen: Context, answer: str, *, passes: bool) -> None:
    verdict = judged(name, options, replace(seen, answer=answer))
    assert verdict.passed == passes, verdict.why
    assert verdict.passed or verdict.why


@pytest.mark.parametrize(
    ("name", "options", "language", "former", "answer", "passes"),
    REVISIONS,
    ids=[case_id(name, language, passes=passes) for name, _, language, _, _, passes in REVISIONS],
)
def test_revision(
    name: str, options: Any, language: Language, former: str, answer: str, *, passes: bool
) -> None:
    verdict = judged(name, options, Context(answer=answer, language=language, earlier=("x", former)))
    assert verdict.passed == passes, verdict.why


def test_a_chat_model_that_goes_on_to_the_limit_has_lost_its_end() -> None:
    seen = replace(EN, answer="So it goes", end="length")
    assert not judged("ends", SET, seen).passed
    assert judged("ends", SET, replace(seen, is_chat=False)).passed
    assert judged("ends", SET, replace(seen, end="end")).passed


def test_a_source_is_counted_as_it_was_shown() -> None:
    """Material 3 of the pack is the second one sent when the first did not fit."""
    seen = replace(ZH, materials=ZH.materials[1:], shown_as={2: 1, 3: 2})
    assert judged("cites", {"right": [3], "needed": True}, replace(seen, answer="资料2")).passed
    assert not judged("cites", {"right": [3], "needed": True}, replace(seen, answer="资料3")).passed
    verdict = judged("cites", {"right": [1], "needed": True}, replace(seen, answer="根据资料"))
    assert "did not fit" in verdict.why


def test_every_check_has_cases_in_both_languages() -> None:
    for name in CHECKS:
        if name == "ends":
            continue
        tables = {(s.language, p) for n, _, s, _, p in CASES if n == name}
        tables |= {(language, p) for n, _, language, _, _, p in REVISIONS if n == name}
        wanted = {(language, passes) for language in get_args(Language) for passes in (True, False)}
        assert tables == wanted, f"{name}: {wanted - tables} missing"
