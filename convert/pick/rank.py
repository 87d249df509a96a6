"""The ranking: which candidate is the answer, and what would have to give where none fits.

The page does the same by `pick.js`; a test compares the two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from convert.errors import UsageFailure
from convert.pick.candidate import Candidate, offered
from convert.pick.fit import Fit, fit
from convert.pick.machine import Machine
from convert.pick.need import Need
from convert.pick.runtime import Runtime, find_runtime
from convert.size import size

SHORTEST = 512  # tokens: a shorter context is of no use


@dataclass(frozen=True)
class Answer:
    """What to take, and all that was weighed."""

    machine: Machine
    need: Need
    fits: tuple[Fit, ...]  # the best first
    answer: Fit | None
    nearest: Fit | None = None  # where there is no answer
    gives: tuple[str, ...] = ()  # what would have to give for it


def rank(
    candidates: Sequence[Candidate],
    machine: Machine,
    need: Need,
    read: Callable[[str], Runtime] = find_runtime,
) -> Answer:
    """Fit every candidate into the machine's runtimes, and choose."""
    fits = ranked(candidates, machine, need, {name: read(name) for name in machine.runtimes})
    best = fits[0] if fits[0].is_answer else None
    if best:
        return Answer(machine, need, tuple(fits), best)
    nearest = _nearest(fits)
    gives = tuple(_gives(nearest, machine, need)) if nearest else ()
    return Answer(machine, need, tuple(fits), None, nearest, gives)


class NothingOpens(UsageFailure):
    """No runtime of a machine opens any of the candidates; another machine's may."""


def ranked(
    candidates: Sequence[Candidate], machine: Machine, need: Need, runtimes: dict[str, Runtime]
) -> list[Fit]:
    """Fit every candidate into the machine's runtimes; the first is the answer if it can be one."""
    fits = _fits(candidates, machine, need, runtimes)
    if not fits:
        opened = sorted({name for each in runtimes.values() for name in each.formats})
        raise NothingOpens(
            f"{', '.join(runtimes)}: nothing that was named can be opened there",
            f"these open {', '.join(opened)}; name other recipes, or another --runtime",
        )
    order = [*runtimes]

    def place(each: Fit) -> tuple[bool, bool, int, bool, float]:
        runtime = 0 if _is_for_speed(need) else order.index(each.runtime_name)
        return not each.is_answer, each.spare_bytes < 0, runtime, not each.is_surely_quick, _key(each, need)

    fits.sort(key=place)
    return fits


def _is_for_speed(need: Need) -> bool:
    """Say whether the quickest runtime goes first; for several users it is the one that is made for them."""
    return need.goal == "speed" and need.users == 1


def _key(each: Fit, need: Need) -> float:
    if need.goal == "speed":
        return -each.speed.user_tok_s
    return each.memory.weights_bytes if need.goal == "size" else each.loss


def _fits(
    candidates: Sequence[Candidate], machine: Machine, need: Need, runtimes: dict[str, Runtime]
) -> list[Fit]:
    """Fit each candidate into the first runtime that opens it, or the quickest where speed is the goal.

    Models get what no recipe asks for, too.
    """
    fits: dict[str, Fit] = {}
    for name, runtime in runtimes.items():
        if machine.kind not in runtime.kinds and len(runtimes) > 1:
            continue
        for each in (*candidates, *_more(candidates, runtime)):
            before = fits.get(each.key)
            if each.format_name not in runtime.formats or (before and not _is_for_speed(need)):
                continue
            fitted = fit(each, name, runtime, machine, need)
            if fitted and (
                before is None or (fitted.is_answer, _rate(fitted)) > (before.is_answer, _rate(before))
            ):
                fits[each.key] = fitted
    return [*fits.values()]


def _rate(each: Fit) -> float:
    return each.speed.user_tok_s


def _more(candidates: Sequence[Candidate], runtime: Runtime) -> list[Candidate]:
    """Offer the runtime's own menu of each model that no recipe makes for it."""
    found: list[Candidate] = []
    for like in {each.label: each for each in candidates if not each.is_alone}.values():
        own = [each for each in candidates if each.label == like.label]
        served = {each.format_name for each in own} & set(runtime.formats)
        if runtime.menu and (runtime.always or not served):
            have = {(each.target, each.format_name) for each in own}
            found += (
                each for each in offered(like.model, runtime.menu, like)
                if (each.target, each.format_name) not in have
            )  # fmt: skip
    return found


def _nearest(fits: Sequence[Fit]) -> Fit | None:
    """Find what lacks least: of those that only lack room, the one that lacks least of it; else the first."""
    lacking = [each for each in fits if each.is_suited]
    if lacking:
        return min(lacking, key=lambda each: each.memory.most_bytes - each.room_bytes)
    able = [each for each in fits if not each.candidate.is_failed]
    return min(able, key=lambda each: each.memory.most_bytes - each.room_bytes, default=None)


def _gives(nearest: Fit, machine: Machine, need: Need) -> list[str]:
    """Say what would have to give: a shorter context, fewer users, fewer bits, more memory, less speed."""
    found: list[str] = []
    # What is too slow as it is has to be accepted as such, whatever else gives.
    is_slow = nearest.speed.user_tok_s < need.min_speed
    asked = replace(need, min_speed=nearest.speed.user_tok_s * 0.999) if is_slow else need
    candidate, name, runtime = nearest.candidate, nearest.runtime_name, nearest.runtime

    def works(need: Need, candidate: Candidate = candidate) -> bool:
        other = fit(candidate, name, runtime, machine, need)
        return other is not None and other.is_answer

    context = need.context // 2
    while context >= SHORTEST and not works(replace(asked, context=context)):
        context //= 2
    if context >= SHORTEST:
        found.append(f"{_tokens(need.context)} → {_tokens(context)} tokens")
    users = next((n for n in range(need.users - 1, 0, -1) if works(replace(asked, users=n))), None)
    if users:
        found.append(f"{need.users} → {users} users")
    for smaller in offered(candidate.model, runtime.smaller, candidate) if runtime.smaller else ():
        if works(asked, smaller):
            found.append(f"{candidate.target.partition('-')[2]} → {smaller.target.partition('-')[2]}")
            break
    lacking = nearest.memory.most_bytes - nearest.room_bytes
    if lacking > 0:
        found.append(f"+{size(lacking)} of {'GPU ' if machine.gpus else ''}memory")
    elif not found and not nearest.is_suited:
        found.append(nearest.fault)
    if need.min_speed > asked.min_speed:
        slower = f"{need.min_speed:g} → {nearest.speed.user_tok_s:.1f} tok/s"
        return [f"{each} and {slower}" for each in found] or [slower]
    return found


def _tokens(count: int) -> str:
    return f"{count // 1024}k" if count % 1024 == 0 else f"{count:,}"
