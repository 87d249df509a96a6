"""What fits into the time that a verification has: fewer windows, repetitions and dialogues, evenly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

from verify.choice import chosen, ranked, spread
from verify.scope import Part, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verify.measure import SpeedPlan
    from verify.pilot import Rates
    from verify.scenarios.pack import Dialogue, Pack
    from verify.task import Plan

# Of the time: the rest is for what a short measurement does not see.
SHARE = 0.85
# Of what is left, at most, for odds and for speed; dialogues get the rest, and what these two leave.
ODDS_SHARE = 0.3
SPEED_SHARE = 0.3
# Fewer say nothing of how figures vary.
FEWEST_WINDOWS = 2
# Answers end before they must: SmolLM2 makes 0.47 of the most tokens.
USED = 0.55
# Guesses make steps fewer: SmolLM2 takes 0.6 of the steps of its longest dialogue.
STEPS = 0.6
# A token takes longer with a text before it than in the short measurement.
DEEPER = 1.5
TURN_TOKENS = 24  # of markup around a turn's words
START_S = 1.5  # of a process, before it opens anything


@dataclass(frozen=True)
class Weight:
    """A dialogue's tokens: read where a seat remembers the turns before, read where it does not, written."""

    read: int
    read_again: int
    written: float


def weigh(pack: Pack, dialogue: Dialogue, count: Callable[[str], int]) -> Weight:
    """Count what a dialogue takes."""
    new = again = history = 0
    written = 0.0
    for turn in dialogue.turns:
        words = count(pack.user(turn, dialogue.materials)) + TURN_TOKENS
        answer = USED * pack.max_tokens_of(turn)
        new += words
        again += history + words
        history += words + int(answer)
        written += answer
    return Weight(new, again, written)


def speed_plans(full: SpeedPlan) -> tuple[SpeedPlan, ...]:
    """List plans that take less and less time; a repetition is the same in each."""
    one = replace(full, openings=1)
    return (
        full,
        replace(full, rounds=2, concurrency=full.concurrency[1:2]),
        replace(one, rounds=2, concurrency=full.concurrency[1:2]),
        replace(one, rounds=2, concurrency=()),
        replace(one, rounds=1, concurrency=()),
    )


def opening_s(rates: Rates) -> float:
    """Compute how long it takes until a model can be asked."""
    return 0.0 if rates.waits else START_S + rates.open_s


def speed_s(rates: Rates, plan: SpeedPlan) -> float:
    """Compute how long one model's speed takes to measure; a copy's is not."""
    if rates.opens_once:
        plan = replace(plan.once(), concurrency=())
    rates = rates.itself or rates
    once = plan.prompt_tokens * rates.read_s + plan.answer_tokens * rates.alone_s
    opening = START_S + rates.open_s + once / 2
    together = sum(
        count * (plan.concurrent_prompt_tokens * rates.read_s + plan.concurrent_tokens * rates.token_s)
        for count in plan.concurrency
    )
    return plan.openings * (opening + plan.rounds * once) + together + (opening if plan.concurrency else 0.0)


def dialogues_s(rates: Rates, weights: Sequence[Weight]) -> float:
    """Compute how much of one model's time these dialogues take, as many at once as it has seats."""
    if not rates.answers or not weights:
        return 0.0
    written = sum(each.written for each in weights)
    read = sum(each.read if rates.seats > 1 else each.read_again for each in weights)
    step_s, token_s = 0.0, rates.token_s
    if rates.seats > 1:  # what a step takes whoever writes in it, and what each token adds
        token_s = max(0.0, rates.token_s * rates.seats - rates.alone_s) / (rates.seats - 1)
        step_s = max(0.0, rates.alone_s - token_s)
    steps = max(written / rates.seats, *(STEPS * each.written for each in weights))
    return read * rates.read_s + DEEPER * (steps * step_s + written * token_s)


@dataclass(frozen=True)
class Sample:
    """How much is asked at least, if there is so much."""

    dialogues: int
    windows: int

    def is_in(self, scope: Scope) -> bool:
        """Tell whether so much is asked."""
        wanted = ((scope.dialogues, self.dialogues), (scope.windows, self.windows))
        return all(part.asked >= min(part.of, least) for part, least in wanted)


@dataclass(frozen=True)
class Fitted:
    """A plan that fits, the windows that it has, and how long each step of each model takes."""

    plan: Plan
    windows: tuple[int, ...]  # which of all
    scope: Scope
    expected: Mapping[tuple[str, str], float]  # seconds, by model and step


def whole(plan: Plan, windows: int) -> Fitted:
    """Leave nothing out."""
    return _fitted(plan, plan, windows, range(windows), {})


def fit(
    plan: Plan,
    windows: int,
    rates: Mapping[str, Rates],
    count: Callable[[str], int],
    left_s: float,
    *,
    most: Sample | None = None,
) -> Fitted:
    """Leave out what does not fit into the seconds that are left; for a sample also what is beyond it."""
    models = list(rates.values())
    order = ranked(plan.packs)[: most.dialogues if most else None]
    room_for = min(windows, most.windows) if most else windows
    room_s = SHARE * left_s - sum(opening_s(each) for each in models)
    window_s = sum(each.window_s for each in models)
    fitting_windows = ODDS_SHARE * max(0.0, room_s) / window_s if window_s > 0 else inf
    kept_windows = max(min(windows, FEWEST_WINDOWS), int(min(room_for, fitting_windows)))
    room_s -= kept_windows * window_s
    costs = [(sum(speed_s(each, speed) for each in models), speed) for speed in speed_plans(plan.speed)]
    fitting = [speed for cost_s, speed in costs if cost_s <= SPEED_SHARE * room_s]
    speed = costs[-1][1] if most or not fitting else fitting[0]
    room_s -= sum(speed_s(each, speed) for each in models)
    weights = [weigh(pack, dialogue, count) for pack, dialogue in order]
    dialogues = len(order)
    while dialogues and sum(dialogues_s(each, weights[:dialogues]) for each in models) > room_s:
        dialogues -= 1
    smaller = replace(plan, packs=chosen(plan.packs, dialogues), speed=speed)
    expected = _expected(smaller, kept_windows, rates, count)
    return _fitted(plan, smaller, windows, sorted(spread(windows)[:kept_windows]), expected)


def full_s(plan: Plan, windows: int, rates: Rates, count: Callable[[str], int]) -> float:
    """Compute how long one model takes if nothing is left out."""
    return sum(_expected(plan, windows, {"": rates}, count).values())


def expected_tokens(plan: Plan) -> float:
    """Compute how many tokens all answers of a model are expected to have."""
    turns = ((pack, turn) for pack in plan.packs for each in pack.dialogues for turn in each.turns)
    return sum(USED * pack.max_tokens_of(turn) for pack, turn in turns)


def asking_s(plan: Plan, windows: int, rates: Rates, count: Callable[[str], int]) -> float:
    """Compute how long one model takes for all odds and dialogues."""
    expected = _expected(plan, windows, {"": rates}, count)
    return expected["", "odds"] + expected["", "dialogues"]


def _expected(
    plan: Plan, windows: int, rates: Mapping[str, Rates], count: Callable[[str], int]
) -> dict[tuple[str, str], float]:
    weights = [weigh(pack, dialogue, count) for pack in plan.packs for dialogue in pack.dialogues]
    found: dict[tuple[str, str], float] = {}
    for name, each in rates.items():
        found[name, "opening"] = opening_s(each)
        found[name, "odds"] = windows * each.window_s
        found[name, "dialogues"] = dialogues_s(each, weights)
        found[name, "speed"] = speed_s(each, plan.speed)
    return found


def _fitted(
    full: Plan, plan: Plan, windows: int, kept: Sequence[int], expected: Mapping[tuple[str, str], float]
) -> Fitted:
    scope = Scope(
        limit_s=full.budget_s if full.budget_s not in (None, inf) else None,
        expected_s=round(sum(expected.values()), 1) if expected else None,
        took_s=None,
        dialogues=Part(_count(plan), _count(full)),
        windows=Part(len(kept), windows),
        repetitions=Part(plan.speed.openings * plan.speed.rounds, full.speed.openings * full.speed.rounds),
    )
    return Fitted(plan, tuple(kept), scope, expected)


def _count(plan: Plan) -> int:
    return sum(len(pack.dialogues) for pack in plan.packs)
