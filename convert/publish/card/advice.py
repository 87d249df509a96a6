"""Which file to take, and how much memory each needs: by the rules of `pick`, for this repo's files alone."""

from dataclasses import dataclass

from convert.pick import candidate as pick
from convert.pick.memory import estimate
from convert.pick.need import Need
from convert.pick.profile import shipped_machine
from convert.pick.rank import NothingOpens, ranked
from convert.pick.runtime import Runtime, shipped_runtime
from convert.publish.bundle import Bundle, Candidate
from convert.publish.card import markdown
from convert.publish.card.label import label
from verify.report import NAME as REPORT_NAME

# Machines that people ask about, the smallest first.
MACHINES = ("laptop-8gb", "laptop-16gb", "rtx-3060", "rtx-4090", "a100-80x1")
MORE = ("macbook-16gb",)  # for what opens nowhere else
COMMON_CONTEXT = 4096


@dataclass(frozen=True)
class Needs:
    """Estimates of the memory that an artifact needs in a runtime, by the tokens of a context."""

    runtime: str
    error: float
    size_bytes: dict[int, float]


def contexts(full: int | None) -> tuple[int, ...]:
    """List the contexts that are shown: a common one, and the model's own where that is longer."""
    common = min(full or COMMON_CONTEXT, COMMON_CONTEXT)
    return (common, full) if full and full > common else (common,)


def needs(bundle: Bundle, candidate: Candidate, full: int | None) -> Needs | None:
    """Estimate; None where the format cannot tell, or no runtime is known."""
    offered, runtime = offer(bundle, candidate), _runtime(candidate.manifest.format)
    if offered is None or offered.weighed is None or runtime is None:
        return None
    decoder, weighed, holds = offered.model.decoder, offered.weighed, runtime.holds
    found = {tokens: estimate(decoder, weighed, holds, context=tokens) for tokens in contexts(full)}
    return Needs(
        runtime.title, holds.error.value, {tokens: each.total_bytes for tokens, each in found.items()}
    )


def sentence(bundle: Bundle) -> str:
    """Say which file to take on which machine; nothing where none of them fits any."""
    described = bundle.candidates[0].manifest.model
    need = Need(context=contexts(described.context_length if described else None)[0])
    offered = {each.target: offer(bundle, each) for each in bundle.candidates}
    named = {each.target: markdown.code(label(each)) for each in bundle.candidates}
    known = [each for each in offered.values() if each is not None]
    answers: dict[str, list[str]] = {}
    for machine in map(shipped_machine, MACHINES) if known else ():
        try:
            best = ranked(known, machine, need, {name: shipped_runtime(name) for name in machine.runtimes})[0]
        except NothingOpens:  # none of its runtimes opens any of them
            continue
        if best.is_answer:
            answers.setdefault(best.candidate.target, []).append(machine.title)
    if not answers:
        return ""
    taken = ", ".join(_taken(named[target], titles) for target, titles in answers.items())
    return f"Take {taken}: what `modelwright pick` takes there for one user and {need.context:,} tokens."


def _taken(name: str, titles: list[str]) -> str:
    return f"{name} on {' or '.join(titles)}"


def offer(bundle: Bundle, candidate: Candidate) -> pick.Candidate | None:
    """Describe it as `pick` weighs it."""
    options = bundle.options.get(candidate.manifest.format)
    if bundle.model is None or options is None:
        return None
    machine = bundle.report.machine
    found = pick.Found(candidate.folder / REPORT_NAME, machine.cpu, machine.cores, candidate.result)
    return pick.Candidate(
        bundle.model, bundle.title, candidate.target, options, is_built=True, found=found, is_alone=True
    )


def _runtime(format_name: str) -> Runtime | None:
    """Find the runtime that opens the format on the smallest of the machines that have one."""
    names = [name for machine in map(shipped_machine, (*MACHINES, *MORE)) for name in machine.runtimes]
    runtimes = map(shipped_runtime, dict.fromkeys(names))
    return next((each for each in runtimes if format_name in each.formats), None)
