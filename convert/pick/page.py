"""What the page needs to choose by itself: candidates, machines and runtimes as data, and the first answer.

`pick.js` does with the data what `fit` and `rank` do here; a test compares the two over a grid of needs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from convert.deviation import count_matrices, grouped, summed
from convert.errors import Failure
from convert.pick import commands, data
from convert.pick.candidate import Candidate, of_recipe, offered
from convert.pick.fit import NONE, NOT_RUN, Fit, fit
from convert.pick.machine import Machine
from convert.pick.need import Need
from convert.pick.page_data import data_of_candidate, data_of_machine, data_of_model, data_of_runtime, key
from convert.pick.profile import shipped_machine
from convert.pick.rank import Answer, NothingOpens, rank
from convert.pick.runtime import Runtime, find_runtime
from convert.pick.sentence import GOALS, LANGUAGES, heading, reason, sentence
from convert.recipe import Recipe
from convert.recipe.redact import redact
from convert.source import Hub
from convert.store import MANIFEST_NAME, read_manifest
from verify.report import others
from verify.report import read as read_report
from verify.report.choice import Choice, Command, Offer
from verify.report.page import render

Further = dict[str, dict[str, Candidate]]
SCRIPTS = tuple(Path(__file__).with_name(name) for name in ("pick.js", "plots.js"))
# The machines that the page of a recipe begins with: the first that opens any of its artifacts.
FIRST = ("laptop-16gb", "macbook-16gb", "rtx-4090", "browser")
NOT_THERE = "opens in no runtime for this machine"
CONTEXTS = tuple(1 << power for power in range(9, 16))


def choice(
    candidates: Sequence[Candidate],
    machine: Machine,
    need: Need,
    read: Callable[[str], Runtime] = find_runtime,
) -> Choice:
    """Describe the choice on a machine, and what it takes to choose for each machine that is shipped.

    Other profiles of a person's are left out: a page travels.
    """
    machines = {machine.name: machine} | {
        name: shipped_machine(name) for name in _profiles() if name != machine.name
    }
    names = dict.fromkeys(name for each in machines.values() for name in each.runtimes)
    runtimes = {name: read(name) for name in names}
    found = rank(candidates, machine, need, read)
    best = found.answer
    further = _further(candidates, runtimes)
    typed = (commands.build(best.candidate), commands.run(best, need)) if best else ()
    return Choice(
        heading=heading(found),
        sentence=sentence(found),
        reason=reason(found, best) if best else "",
        answer=key(best.candidate) if best else "",
        commands=tuple(filter(None, typed)),
        offers=tuple(_offers(candidates, further, found, runtimes)),
        machines={name: each.title for name, each in machines.items()},
        languages=LANGUAGES,
        settings={"on": machine.name, **vars(need)},
        room_bytes=found.fits[0].room_bytes,
        data={
            "machines": {name: data_of_machine(each) for name, each in machines.items()},
            "runtimes": {name: data_of_runtime(each) for name, each in runtimes.items()},
            "models": {each.label: data_of_model(each) for each in candidates},
            "candidates": [data_of_candidate(each, runtimes) for each in candidates],
            "further": {
                label: {text: data_of_candidate(each, runtimes) for text, each in found_.items()}
                for label, found_ in further.items()
            },
            "languages": LANGUAGES,
            "goals": GOALS,
            "need": vars(need),
            "native": data.read_json("quality.json")["native"]["value"],
        },
        script="\n".join(each.read_text("utf-8") for each in SCRIPTS),
    )


def render_page(candidates: Sequence[Candidate], machine: Machine, need: Need) -> str:
    """Render the page of a choice, with all that the candidates' reports have measured."""
    paths = dict.fromkeys(each.found.path for each in candidates if each.found)
    folders = dict.fromkeys(each.path.parents[2] for candidate in candidates for each in candidate.elsewhere)
    further = [report for folder in folders for report in others(folder).values()]
    return render(*map(read_report, paths), *further, choice=choice(candidates, machine, need))


def for_recipes(recipes: Iterable[Recipe], out: Path) -> Choice | None:
    """Describe the choice between the artifacts of these recipes and no others, without a network.

    None where a model is not at hand, or where nothing opens an artifact on any machine.
    """
    hub = Hub.from_environment(is_offline=True)
    try:
        found = [each for recipe in recipes for each in of_recipe(recipe, out, hub)]
    except Failure:
        return None
    return between(found, find_runtime)  # a file of a machine or runtime that cannot be read is no "none"


def between(candidates: Iterable[Candidate], read: Callable[[str], Runtime]) -> Choice | None:
    """Describe the choice between these and nothing else, on the first machine that opens any of them."""
    found = [replace(each, is_alone=True) for each in candidates]
    longest = max((each.model.decoder.context_length for each in found), default=0)
    need = Need(context=min(Need().context, longest))
    for name in FIRST:
        with suppress(NothingOpens):
            return choice(found, shipped_machine(name), need, read)
    return None


def _profiles() -> list[str]:
    return sorted(path.stem for path in (data.SHIPPED / "profiles").glob("*.yaml"))


def _offers(
    candidates: Sequence[Candidate], further: Further, found: Answer, runtimes: dict[str, Runtime]
) -> Iterator[Offer]:
    """Describe each candidate by its place on the first machine; those that have none there come last."""
    placed: dict[str, Fit] = {}
    for each in found.fits:
        placed.setdefault(key(each.candidate), each)
    for place in placed.values():
        yield _offer(place, found, runtimes)
    named = {key(each): each for each in candidates}
    menu = {text for each in runtimes.values() for text in each.menu}
    is_wide = not all(each.is_alone for each in candidates)  # and other formats of their models are meant
    others = {
        key(each): each
        for by_text in further.values()
        for text, each in by_text.items()
        if text in menu and is_wide
    }
    for which, candidate in {**others, **named}.items():
        opening = next((pair for pair in runtimes.items() if candidate.format_name in pair[1].formats), None)
        if which not in placed and opening and candidate.weighed:
            nowhere = replace(NONE, weights_bytes=float(candidate.weighed.size_bytes))
            place = Fit(candidate, *opening, nowhere, NOT_RUN, 0.0, fault=NOT_THERE)
            offer = _offer(place, found, runtimes)
            yield replace(offer, total_bytes=None, tok_s=None, memory=(), is_named=which in named)


def _offer(place: Fit, found: Answer, runtimes: dict[str, Runtime]) -> Offer:
    candidate, need = place.candidate, found.need
    lengths = [tokens for tokens in CONTEXTS if tokens <= candidate.model.decoder.context_length]
    fits = [
        (
            tokens,
            fit(candidate, place.runtime_name, place.runtime, found.machine, replace(need, context=tokens)),
        )
        for tokens in lengths
    ]
    memory = [(tokens, each.memory) for tokens, each in fits if each and not each.memory.is_measured]
    return Offer(
        key=key(candidate),
        recipe=candidate.label,
        name=candidate.shown_target,
        format_name=candidate.format_name,
        runtimes=tuple(each.title for each in runtimes.values() if candidate.format_name in each.formats),
        state=candidate.state,
        fault=place.why_not,
        weights_bytes=place.memory.weights_bytes * place.parallel,
        total_bytes=place.memory.total_bytes,
        is_memory_measured=place.memory.is_measured,
        tok_s=place.speed.user_tok_s,
        is_speed_measured=place.speed.is_measured,
        kl=candidate.kl,
        expected_kl=place.expected_kl,
        commands=tuple(_commands(place, need, runtimes)) if candidate.is_built else (),
        differs=tuple(_differs(candidate)),
        context=candidate.model.decoder.context_length,
        memory=tuple((tokens, each.total_bytes) for tokens, each in memory),
    )


def _commands(place: Fit, need: Need, runtimes: dict[str, Runtime]) -> Iterator[Command]:
    """Yield the command in each runtime that opens it, the first machine's first; each once."""
    if place.candidate.shipped and place.candidate.shipped.get:
        yield "download", place.candidate.shipped.get
    ordered = {place.runtime_name: place.runtime, **runtimes}
    seen: set[str] = set()
    for name, runtime in ordered.items():
        if place.candidate.format_name in runtime.formats:
            command = commands.run(replace(place, runtime_name=name, runtime=runtime), need)
            if command not in seen:
                seen.add(command)
                yield runtime.title, command


def _differs(candidate: Candidate) -> Iterable[str]:
    """Read from the manifest what is not as in the source."""
    if candidate.folder is None or not (candidate.folder / MANIFEST_NAME).is_file():
        return ()
    manifest = read_manifest(candidate.folder)
    sums, others = summed((candidate.target, each) for each in manifest.deviations)
    matrices = count_matrices(manifest.tensors)
    said = [
        *(each.sentence(matrices, None) for each in sums),
        *(f"{each.pattern}: {each.what}" for each in grouped(others)),
    ]
    return map(redact, said)  # for a page travels


def _further(candidates: Sequence[Candidate], runtimes: dict[str, Runtime]) -> Further:
    """List by model and target what runtimes offer of it, and what they would take where nothing fits."""
    menu = {text for each in runtimes.values() for text in each.smaller}
    if not all(each.is_alone for each in candidates):
        menu |= {text for each in runtimes.values() for text in each.menu}
    likes = {each.label: each for each in candidates}
    likes |= {each.label: each for each in candidates if not each.is_alone}
    return {
        label: {text: each for text in sorted(menu) for each in offered(like.model, (text,), like)}
        for label, like in likes.items()
    }
