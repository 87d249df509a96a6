"""What fits into a time: evenly chosen, never more than fits, the same for the same numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import inf

import pytest

from convert.recipe import Gates
from convert.recipe.span import AUTO, is_span, span_s
from verify import scenarios
from verify.budget import Weight, dialogues_s, fit, full_s, whole
from verify.choice import chosen, ranked, spread
from verify.forecast import Forecast
from verify.gates import limits_for
from verify.pilot import Paced, Rates
from verify.scope import Part, Scope
from verify.survey import settle
from verify.task import Plan, Silence

PACKS = scenarios.load(scenarios.names())
ALL = sum(len(pack.dialogues) for pack in PACKS)
# As a model of 135 million weights on two cores.
RATES = Rates(open_s=0.5, read_s=0.0016, window_s=1.3, token_s=0.0036, alone_s=0.012, seats=16)


def plan(budget_s: float | None) -> Plan:
    return Plan(PACKS, "", "words", budget_s=budget_s)


def count(text: str) -> int:
    return len(text) // 3


class Words:
    """A worker that counts tokens."""

    def tokenize(self, text: str) -> list[int]:
        return [0] * count(text)


@dataclass
class Made:
    """An artifact that says how fast it is, and counts how often it was asked."""

    rates: Rates | None
    server: str | None = None
    measured: int = 0

    def measure(self) -> Rates | None:
        self.measured += 1
        return self.rates


def asked(packs: object) -> set[tuple[str, str, str]]:
    return {(pack.scenario, pack.language, each.name) for pack in packs for each in pack.dialogues}  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [1, 2, 3, 8, 11, 40])
def test_the_first_few_are_far_apart(size: int) -> None:
    order = spread(size)
    assert sorted(order) == list(range(size))
    assert order[0] == 0
    gaps = [abs(order[1] - order[0])] if size > 1 else []
    assert all(gap >= size // 4 for gap in gaps)


@pytest.mark.parametrize("number", [0, 1, 4, 6, 9, 17, ALL])
def test_dialogues_are_chosen_evenly_and_each_choice_is_in_the_next(number: int) -> None:
    packs = chosen(PACKS, number)
    assert sum(len(pack.dialogues) for pack in packs) == number
    sizes = Counter({pack.scenario + pack.language: len(pack.dialogues) for pack in packs})
    most = [len(pack.dialogues) for pack in PACKS]
    if number <= 4 * min(most):
        assert max(sizes.values(), default=0) - min(sizes.values(), default=0) <= 1
        assert len(sizes) == min(number, len(PACKS))
    assert asked(packs) <= asked(chosen(PACKS, number + 1))
    assert len(ranked(PACKS)) == ALL
    assert [pack.scenario for pack in packs] == sorted(
        (pack.scenario for pack in packs), key=[pack.scenario for pack in PACKS].index
    )


@pytest.mark.parametrize("budget_s", [60.0, 120.0, 600.0, 1800.0])
@pytest.mark.parametrize("artifacts", [1, 4])
def test_what_is_asked_fits(budget_s: float, artifacts: int) -> None:
    rates = {"source": RATES} | {f"artifact {number}": RATES for number in range(artifacts)}
    fitted = fit(plan(budget_s), 8, rates, count, budget_s)
    assert fitted.scope.expected_s is not None
    assert fitted.scope.expected_s <= budget_s
    assert fitted.scope.expected_s == pytest.approx(sum(fitted.expected.values()), abs=0.1)
    assert fitted.scope.windows.asked == len(fitted.windows) >= 2
    assert fitted.scope.dialogues.asked == len(asked(fitted.plan.packs))
    again = fit(plan(budget_s), 8, rates, count, budget_s)
    assert again == fitted


def test_more_time_asks_more() -> None:
    scopes = [fit(plan(s), 8, {"source": RATES, "a": RATES}, count, s).scope for s in (60.0, 120.0, 300.0)]
    numbers = [scope.dialogues.asked for scope in scopes]
    assert numbers == sorted(set(numbers))
    assert 0 < numbers[0] < numbers[-1] <= ALL
    assert not scopes[0].is_whole
    alone_s = full_s(plan(None), 8, RATES, count)
    assert fit(plan(inf), 8, {"source": RATES}, count, inf).scope.is_whole
    assert fit(plan(2 * alone_s), 8, {"source": RATES}, count, 2 * alone_s).scope.is_whole


def test_a_model_that_is_too_slow_is_still_compared_by_its_odds() -> None:
    slow = Rates(open_s=100.0, read_s=1.0, window_s=500.0, token_s=5.0, alone_s=9.0)
    scope = fit(plan(120.0), 8, {"source": slow}, count, 120.0).scope
    assert (scope.dialogues.asked, scope.windows.asked, scope.repetitions.asked) == (0, 2, 1)
    assert scope.words()["dialogues"] == f"0 of {ALL}"
    assert whole(plan(None), 8).scope.words()["windows of text"] == "all 8"


def test_a_sample_is_asked_where_everything_would_take_long() -> None:
    """Five minutes of a small model, and of a larger one two dialogues, which take longer."""

    def asked_of(factor: float, budget_s: float, *, is_sample: bool) -> Scope:
        names = ("read_s", "window_s", "token_s", "alone_s")
        slower = replace(RATES, **{name: factor * getattr(RATES, name) for name in names})
        others = {name: Made(slower) for name in "ab"}
        wanted = replace(plan(budget_s), is_sample=is_sample)
        return settle(Paced(Words(), slower), wanted, 8, others, Forecast(Silence())).scope  # type: ignore[arg-type]

    small = asked_of(1, 900.0, is_sample=True)
    assert small.expected_s is not None
    assert small.expected_s < 300
    assert 4 < small.dialogues.asked < asked_of(1, 900.0, is_sample=False).dialogues.asked
    large = asked_of(12, 900.0, is_sample=True)
    assert (large.dialogues.asked, large.windows.asked, large.repetitions.asked) == (2, 2, 1)
    assert large.expected_s is not None
    assert 300 < large.expected_s < 900
    assert asked_of(40, 900.0, is_sample=True).dialogues.asked == 0


def test_a_server_is_started_once_to_see_how_long_that_takes() -> None:
    """However fast the model is: its start may take longer than all questions."""
    slow = replace(RATES, open_s=40.0)
    quick = plan(600.0)

    def settled(*others: Made) -> Scope:
        named = {str(number): each for number, each in enumerate(others)}
        return settle(Paced(Words(), RATES), quick, 8, named, Forecast(Silence())).scope  # type: ignore[arg-type]

    first, second = Made(slow, server="vllm"), Made(None, server="vllm")
    with_servers = settled(first, second)
    assert (first.measured, second.measured) == (1, 0)
    open_alone = settled(Made(RATES), Made(RATES))
    assert with_servers.expected_s is not None
    assert open_alone.expected_s is not None
    assert with_servers.expected_s <= 600
    assert with_servers.repetitions.asked < open_alone.repetitions.asked
    dead, after = Made(None, server="vllm"), Made(slow, server="vllm")
    settled(dead, after)
    assert after.measured == 1
    one, other = Made(slow, server="vllm"), Made(RATES, server="llama-server")
    settled(one, other)
    assert (one.measured, other.measured) == (1, 1)


def test_a_long_dialogue_takes_as_long_however_many_seats_there_are() -> None:
    one, same = Weight(0, 0, 900.0), [Weight(0, 0, 100.0)] * 9
    assert dialogues_s(RATES, [one]) > dialogues_s(RATES, same)
    alone = replace(RATES, seats=1, token_s=RATES.alone_s)
    assert dialogues_s(alone, [one]) == pytest.approx(dialogues_s(alone, same))


def test_one_of_a_few_dialogues_may_be_lost() -> None:
    assert limits_for(Gates(), "gguf-Q4_K_M", Part(10, 44)).smoke_drop == 0.1
    assert limits_for(Gates(), "gguf-Q4_K_M", Part(30, 44)).smoke_drop == 0.05
    assert limits_for(Gates(), "gguf-Q4_K_M", Part(10, 10)).smoke_drop == 0.05
    assert limits_for(Gates(smoke_drop=None), "gguf-Q4_K_M", Part(10, 44)).smoke_drop is None
    assert limits_for(Gates(), "gguf-Q4_K_M", Part(0, 44)).smoke_drop == 0.05


def test_the_time_left_is_said_and_shrinks() -> None:
    class Heard(Silence):
        lines: list[str] = []  # noqa: RUF012

        def doing(self, name: str, what: str) -> None:
            self.lines.append(f"{name}: {what}")

    heard = Heard()
    forecast = Forecast(heard)
    forecast.doing("a", "opening")
    forecast.expect({("a", "odds"): 30.0, ("a", "dialogues"): 60.0})
    forecast.doing("a", "odds")
    forecast.done("a", "odds", 0.1)
    forecast.done("a", "odds", 0.1)
    forecast.doing("a", "odds")
    forecast.done("a", "odds")
    forecast.done("a", "dialogues", 0.95)
    forecast.doing("a", "dialogue 19 of 20")
    assert heard.lines[:3] == [
        "a: opening",
        "a: odds, about 90 s left in all",
        "a: odds, about 87 s left in all",
    ]
    assert heard.lines[3] == "a: dialogue 19 of 20"
    forecast.expect({("source", "dialogues"): 60.0, ("a", "dialogues"): 60.0, ("a", "odds"): 20.0})
    forecast.done("source", "dialogues", 0.04)
    forecast.correct("dialogues", 0.5)  # the source wrote half of what was expected
    forecast.done("source", "dialogues")
    assert forecast.left_s() == pytest.approx(12.5)  # by its pace, which is clamped


def test_time_spans_are_a_number_and_a_unit() -> None:
    assert [span_s(text) for text in ("90s", "2min", "3h", "none")] == [90.0, 120.0, 10800.0, None]
    assert span_s(AUTO) == 900.0
    assert not [text for text in ("", "0min", "2", "2 min", "-1s", "1.5h", "2m", "inf") if is_span(text)]
