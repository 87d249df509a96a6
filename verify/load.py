"""A server under the load of many users: how long each waits, how fast it reads, and whose answer it gets."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence  # noqa: TC003 - the report reads the annotations
from dataclasses import dataclass, replace
from itertools import accumulate
from os.path import commonpath
from typing import TYPE_CHECKING

from convert.errors import Failure, UsageFailure
from verify.gates import Check
from verify.runtimes import Outcome, Request
from verify.sample import percentile
from verify.undisturbed import undisturbed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verify.worker import Launch, Worker


@dataclass(frozen=True)
class Profile:
    """What users of one kind ask."""

    prompt_tokens: int
    answer_tokens: int
    words: str  # what they want, after the text that they give


PROFILES: Mapping[str, Profile] = {
    "chat": Profile(120, 120, "Answer in a few sentences."),
    "retrieval": Profile(2000, 150, "Answer the question from these materials, and cite them."),
    "lesson": Profile(150, 700, "Write the whole lesson: goals, content, and a quiz."),
}
# Of the requests that are served in a second in the closed loop, how many come in the open one: fewer than
# are possible, or a queue grows without end.
OPEN_SHARE = 0.7
MOST_REQUESTS = 200
# So many prompts are asked alone as well: the same words must come first when others ask meanwhile.
ALONE = 6
ALONE_TOKENS = 16
MARGIN_TOKENS = 64
SEED = 20_261_126


@dataclass(frozen=True)
class LoadPlan:
    """Who asks what, and how many at once."""

    profile: str = "chat"
    concurrency: tuple[int, ...] = (1, 4, 20)
    rounds: int = 2  # of requests, for each user

    @property
    def asked(self) -> Profile:
        """Return the profile."""
        return PROFILES[self.profile]


def check_profile(name: str) -> None:
    """Refuse a profile that there is not."""
    if name not in PROFILES:
        known = ", ".join(PROFILES)
        raise UsageFailure(f"there is no load profile called {name!r}", f"use one of: {known}")


@dataclass(frozen=True)
class LoadResult:
    """What became of the requests of one level: so many users, or so many requests a second."""

    profile: str
    users: int | None  # None: requests came when they were due
    arrivals_per_s: float | None
    requests: int
    errors: int
    mixed_up: int  # answers that belong to another prompt
    first_error: str | None
    answer_tokens: int
    throughput_tok_s: float
    user_tok_s: float | None  # median speed of an answer, once it has begun
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    ttft_p99_s: float | None
    end_to_end_p50_s: float | None
    end_to_end_p99_s: float | None


def launch_for(launch: Launch, plan: LoadPlan) -> Launch:
    """Give a server that is started here room for the profile's requests, as many as are asked at once."""
    profile = plan.asked
    room = profile.prompt_tokens + profile.answer_tokens + MARGIN_TOKENS
    settings = replace(launch.settings, context=max(launch.settings.context, room))
    if launch.runtime == "served":
        options = {"slots": max(plan.concurrency), **launch.settings.options}
        settings = replace(settings, options=options)
    return replace(launch, settings=settings)


def measure_load(worker: Worker, plan: LoadPlan, text: str, *, is_chat: bool) -> tuple[LoadResult, ...]:
    """Take each level in turn, the open one last, at a share of what the highest closed level served."""
    prompts = Prompts(worker, plan.asked, text, is_chat=is_chat)
    results: list[LoadResult] = []
    rate = 0.0

    def level(count: int, users: int | None, due_s: Sequence[float] = ()) -> LoadResult:
        def ask(_: int) -> tuple[LoadResult, float]:
            asked, before_s = prompts.take(count), worker.stopped_s()
            return _level(worker, plan, asked, users, due_s), worker.stopped_s() - before_s

        return undisturbed(ask)

    for users in plan.concurrency:
        results.append(level(users * plan.rounds, users))
        rate = _rate(results[-1], plan.asked.answer_tokens) or rate
    if rate > 0:
        count = min(MOST_REQUESTS, max(plan.concurrency) * plan.rounds)
        draw = random.Random(SEED)  # noqa: S311 (no secret)
        due_s = tuple(accumulate(draw.expovariate(OPEN_SHARE * rate) for _ in range(count)))
        results.append(replace(level(count, None, due_s), arrivals_per_s=OPEN_SHARE * rate))
    return tuple(results)


def load_check(results: Sequence[LoadResult]) -> Check:
    """Check that every request had its own answer."""
    total = sum(each.requests for each in results)
    wrong = sum(each.errors + each.mixed_up for each in results)
    first = next((each.first_error for each in results if each.first_error), None)
    mixed = sum(each.mixed_up for each in results)
    why = f"{total} requests, at most {max((each.users or 1) for each in results)} at once, had their answers"
    if wrong:
        why = f"{wrong - mixed} of {total} requests had no answer, and {mixed} that of another"
        why += f": {first}" if first else ""
    return Check("load", wrong, 0, passed=not wrong, why=why)


@dataclass(frozen=True)
class Asked:
    """A request with the mark that only it has."""

    request: Request
    mark: str


class Prompts:
    """Prompts of a profile's length, none like another, each with a mark."""

    def __init__(self, worker: Worker, profile: Profile, text: str, *, is_chat: bool) -> None:
        self._profile, self._is_chat = profile, is_chat
        self._draw = random.Random(SEED)  # noqa: S311 (no secret)
        self._words = text.split() or ["word"]
        sample = " ".join(self._words[:400])
        count = worker.count(Request(text=sample)) if "count" in worker.info.can else None
        if count is None and "tokenize" in worker.info.can:
            count = len(worker.tokenize(sample))
        self._chars = len(sample) / count if count else 3.0  # per token
        room = worker.info.context - MARGIN_TOKENS
        if profile.prompt_tokens + profile.answer_tokens > room:
            raise Failure(
                f"a context of {worker.info.context} tokens is too short for the profile's requests",
                "choose another profile with --load, or a model with a longer context",
            )

    def take(self, count: int) -> tuple[Asked, ...]:
        """Make the next ones."""
        return tuple(self._one() for _ in range(count))

    def _one(self) -> Asked:
        mark = f"{self._draw.randrange(16**8):08X}"
        need = int(self._profile.prompt_tokens * self._chars) - len(self._profile.words) - 20
        at, parts, length = self._draw.randrange(len(self._words)), [], 0
        while length < need:
            word = self._words[at % len(self._words)]
            parts.append(word)
            length, at = length + len(word) + 1, at + 1
        said = f"[{mark}] {' '.join(parts)[: max(0, need)]}\n{self._profile.words}"
        tokens = self._profile.answer_tokens
        if self._is_chat:
            message = {"role": "user", "content": said}
            return Asked(Request(messages=(message,), max_tokens=tokens, ignores_end=True), mark)
        return Asked(Request(text=said, max_tokens=tokens, ignores_end=True), mark)


def _level(
    worker: Worker, plan: LoadPlan, asked: Sequence[Asked], users: int | None, due_s: Sequence[float]
) -> LoadResult:
    requests = [each.request for each in asked]
    short = [replace(each, max_tokens=min(ALONE_TOKENS, each.max_tokens)) for each in requests[:ALONE]]
    first = sorted(worker.load(short, 1), key=lambda each: each.index)
    outcomes = sorted(worker.load(requests, users, due_s), key=lambda each: each.index)
    good = [each for each in outcomes if each.fault is None]
    faults = [each.fault for each in (*first, *outcomes) if each.fault]
    alone = [each.text for each in first]
    tokens = sum(each.tokens for each in good)
    took_s = max((each.end_s for each in outcomes), default=0.0)
    waits = [each.first_s - each.due_s for each in good if each.first_s is not None]
    speeds = [speed for each in good if (speed := _speed(each)) is not None]
    whole = [each.end_s - each.due_s for each in good]
    return LoadResult(
        profile=plan.profile,
        users=users,
        arrivals_per_s=None,
        requests=len(asked),
        errors=len(faults),
        mixed_up=len(set(_mixed_up(asked, alone, good))),
        first_error=faults[0] if faults else None,
        answer_tokens=tokens,
        throughput_tok_s=tokens / took_s if took_s > 0 else 0.0,
        user_tok_s=percentile(speeds, 50) if speeds else None,
        ttft_p50_s=percentile(waits, 50) if waits else None,
        ttft_p95_s=percentile(waits, 95) if waits else None,
        ttft_p99_s=percentile(waits, 99) if waits else None,
        end_to_end_p50_s=percentile(whole, 50) if whole else None,
        end_to_end_p99_s=percentile(whole, 99) if whole else None,
    )


def _speed(outcome: Outcome) -> float | None:
    if outcome.first_s is None or outcome.tokens < 2 or outcome.end_s <= outcome.first_s:
        return None
    return (outcome.tokens - 1) / (outcome.end_s - outcome.first_s)


def _rate(result: LoadResult, tokens: int) -> float:
    """Return how many requests a second were answered; with so many tokens each, where none was."""
    answered = result.requests - result.errors
    each = result.answer_tokens / answered if answered else tokens
    return result.throughput_tok_s / each if each else 0.0


def _mixed_up(asked: Sequence[Asked], alone: Sequence[str], outcomes: Sequence[Outcome]) -> Iterator[int]:
    """Name the answers that carry another's mark, or begin as another prompt's answer and not as their own.

    The sums of a batch differ in their last bits, so an answer need not be the same to its end.
    """
    for each in outcomes:
        if any(other.mark in each.text for other in asked if other is not asked[each.index]):
            yield each.index
        if each.index < len(alone):
            own = len(commonpath([each.text, alone[each.index]]))
            others = [text for text in alone if text != alone[each.index]]
            if any(len(commonpath([each.text, text])) > max(own, len(text) // 2) for text in others):
                yield each.index


def _alike(one: str, other: str) -> int:
    """Count the characters that two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))
