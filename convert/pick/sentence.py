"""An answer in sentences: for what it was chosen, what to take, and why. `pick.js` says the same."""

from collections.abc import Iterator

from convert.pick.fit import Fit
from convert.pick.rank import Answer
from convert.size import size

LANGUAGES = {
    "ar": "Arabic", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian",
    "ja": "Japanese", "ko": "Korean", "pt": "Portuguese", "ru": "Russian", "zh": "Chinese",
}  # fmt: skip
GOALS = {
    "quality": "the best expected quality of those that fit",
    "speed": "the quickest of those that fit",
    "size": "the smallest of those that fit",
}


def heading(found: Answer) -> str:
    """Say for what machine and need it was chosen."""
    need, machine = found.need, found.machine
    room = f": {size(machine.room_bytes)} for the model" if not machine.gpus else ""
    parts = [f"{machine}{room}", f"{need.context:,} tokens", _count(need.users, "user")]
    if need.language:
        parts.append(LANGUAGES.get(need.language, need.language))
    return " · ".join(parts)


def sentence(found: Answer) -> str:
    """Say what to take, or what would have to give."""
    if best := found.answer:
        return f"Take {best.title} in {best.runtime.title}: {', '.join(figures(found, best))}."
    if found.nearest is None:
        return "Nothing: every candidate has failed its verification."
    gives = f"; what would have to give: {', or '.join(found.gives)}" if found.gives else ""
    return f"Nothing fits. The nearest is {found.nearest.title}: {found.nearest.why_not}{gives}."


def figures(found: Answer, best: Fit) -> Iterator[str]:
    """Yield room, speed and quality of the answer."""
    total_bytes, room = best.memory.total_bytes, f"{best.room_bytes / 1e9:.1f}"
    yield (
        f"{total_bytes / 1e9:.1f} GB of {room}" if total_bytes >= 1e8 else f"{size(total_bytes)} of {room} GB"
    )
    speed = f"{'' if best.speed.is_measured else 'about '}{rate(best.speed.user_tok_s)} tok/s"
    if found.need.users > 1:
        speed += f" each, {rate(best.speed.total_tok_s)} in all"
    yield speed
    kl = best.candidate.kl
    yield "KL not measured" if kl is None else f"KL {kl:.3f}"


def reason(found: Answer, best: Fit) -> str:
    """Say why it is the answer, and what was passed over."""
    said = [f"{GOALS[found.need.goal]} in {best.runtime.title}, with the error of the estimate"]
    if best.parallel > 1:
        said.append(
            f"{best.parallel} GPUs share it, as one has too little room"
            + (f", {best.replicas} times" if best.replicas > 1 else "")
        )
    elif best.replicas > 1:
        said.append(f"one GPU holds it: {best.replicas} replicas behind a load balancer")
    if found.machine.gpus:
        said.append(f"{_count(best.sequences, 'text')} of {found.need.context:,} tokens fit at once")
    better = [
        each for each in found.fits
        if each.loss < best.loss and each.is_suited and found.need.goal == "quality"
    ]  # fmt: skip
    for each in sorted(better, key=lambda one: one.memory.total_bytes)[:2]:
        why = each.why_not or (
            "may be too slow" if not each.is_surely_quick else f"runs in {each.runtime.title}"
        )
        if why == "too close to the limit":
            why = "fits only with everything else closed"
        said.append(f"{each.title}: {why}")
    return "; ".join(said)


def rate(tokens: float) -> str:
    """Write tokens a second."""
    return f"{tokens:.0f}" if tokens >= 10 else f"{tokens:.1f}"


def _count(amount: int, noun: str) -> str:
    return f"{amount} {noun}{'' if amount == 1 else 's'}"
