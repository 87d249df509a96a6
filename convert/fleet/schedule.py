"""From recipes to orders: what is made in one read, what by itself, and what has to wait for what."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from convert.digest import sha256_of
from convert.errors import Failure
from convert.fleet.order import Order
from convert.pipeline import PLAN, fold, start
from convert.pipeline.stage.keep import is_newer
from convert.publish.gate import current_report
from convert.recipe.span import span_s
from convert.writer.share import Part

ANY = "any"  # class of nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from convert.pipeline.run import Job, Run
    from convert.pipeline.start import Options
    from convert.recipe import Recipe


@dataclass(frozen=True)
class Wish:
    """What a person asks of a fleet, for every recipe."""

    out: Path  # that all nodes see
    parts: int = 1  # that one read is divided into
    cpus: int = 1  # of a node, for one order
    is_offline: bool = False
    publishes: bool = True
    store_url: str | None = None  # in place of a folder that all nodes see


@dataclass(frozen=True)
class Schedule:
    """The orders of one recipe, and what is known of the work before it begins."""

    recipe: Recipe
    orders: tuple[Order, ...]
    read_bytes: int
    written_bytes: int
    download_bytes: int

    @property
    def is_empty(self) -> bool:
        """Say whether nothing is left to do."""
        return not self.orders


def schedule(recipe: Recipe, wish: Wish, options: Options) -> Schedule:
    """Plan a recipe, and turn what is not there yet into orders."""
    run = fold(start(recipe, options), PLAN)
    makers = tuple(_makers(run, wish))
    names = tuple(target.name for target in run.targets)
    judges = tuple(
        order
        for order in _judges(run, wish, names, tuple(order.name for order in makers))
        if makers or not is_judged(run, names, order.subject)
    )
    senders: tuple[Order, ...] = ()
    if recipe.publish and wish.publishes:
        after = tuple(order.name for order in (*makers, *judges))
        senders = (_order(run, wish, "publish", "all", ("publish",), names, after=after, is_local=True),)
    plan = run.plan
    return Schedule(
        recipe,
        (*makers, *judges, *senders),
        plan.read_bytes if makers else 0,
        plan.written_bytes,
        plan.download_bytes,
    )


def _makers(run: Run, wish: Wish) -> Iterator[Order]:
    """Make together what one read fills, together what one lesson teaches, and alone what a tool makes."""
    missing = [job for job in run.jobs if not job.wanted.is_up_to_date]
    seconds = {target.target: target.tool_s for target in run.plan.targets}
    pass_s = max(0.0, run.plan.estimated_s - sum(seconds[job.name] for job in missing))
    if wish.parts > 1:
        shared = [job for job in missing if not job.planned.finish]
        yield from _parts(run, wish, shared, pass_s)
        missing = [job for job in missing if job not in shared]
    read = tuple(job.name for job in missing if not _is_whole(job))
    if read:
        yield _order(run, wish, "convert", "read", ("convert",), read, estimated_s=pass_s)
    lessons: dict[int, list[str]] = defaultdict(list)
    for job in missing:
        if job.planned.learning and not job.planned.finish:
            lessons[id(job.wanted.target.options)].append(job.name)
    for names in lessons.values():
        yield _order(run, wish, "convert", names[0], ("convert",), tuple(names), estimated_s=pass_s)
    for job in missing:
        if job.planned.finish is not None:
            alone = _order(
                run, wish, "convert", job.name, ("convert",), (job.name,), estimated_s=seconds[job.name]
            )
            yield replace(alone, wants_gpu=True)


def _parts(run: Run, wish: Wish, jobs: Sequence[Job], pass_s: float) -> Iterator[Order]:
    """Divide one read; part 1 goes before the others where it learns what they all need."""
    names = tuple(job.name for job in jobs)
    if not names:
        return
    made: list[Order] = []
    for number in range(1, wish.parts + 1):
        part = Part(number, wish.parts)
        words = ("convert", "--part", str(part))
        first = (made[0].name,) if number > 1 and any(job.planned.learning for job in jobs) else ()
        made.append(
            _order(run, wish, "part", str(part), words, names, after=first, estimated_s=pass_s / wish.parts)
        )
    yield from made
    after = tuple(order.name for order in made)
    yield _order(run, wish, "assemble", "all", ("assemble",), names, after=after)


def _is_whole(job: Job) -> bool:
    return bool(job.planned.learning or job.planned.finish)


def _judges(run: Run, wish: Wish, names: tuple[str, ...], after: tuple[str, ...]) -> Iterator[Order]:
    """Judge all artifacts on each class of nodes; the first class's report is the one that is published."""
    for kind in run.recipe.verify.classes:
        words = ("verify", "--on", kind) if kind else ("verify",)
        needs = {kind: 0.001} if kind else {}
        order = _order(run, wish, "verify", kind or ANY, words, names, after=after, needs=needs)
        yield replace(order, at_most_s=span_s(run.recipe.verify.budget))


def is_judged(run: Run, names: Sequence[str], kind: str) -> bool:
    """Say whether a class's report is of these very artifacts, by this recipe and by today's checks."""
    recipe, root = run.recipe, run.store.root
    folder = recipe.verify.report_folder(root / recipe.name, "" if kind == ANY else kind)
    if run.remote is not None:
        run.remote.pull_reports(root, folder)
    try:
        report = current_report(recipe, folder)
    except Failure:
        return False
    results = {result.name: result for result in report.artifacts}
    if run.remote is None:
        return all(name in results and not is_newer(results[name], root / recipe.name) for name in names)
    found = {name: run.remote.manifest(recipe.name, name) for name in names}
    digests = {name: sha256(each[0]).hexdigest() for name, each in found.items() if each}
    return all(name in results and results[name].manifest_sha256 == digests.get(name, "") for name in names)


def _order(  # noqa: PLR0917 - each has its name in the order
    run: Run,
    wish: Wish,
    stage: str,
    subject: str,
    words: Sequence[str],
    targets: tuple[str, ...],
    *,
    after: tuple[str, ...] = (),
    needs: dict[str, float] | None = None,
    estimated_s: float = 0.0,
    is_local: bool = False,
) -> Order:
    path = run.recipe.path.absolute()
    verb, *more = words
    threads = [] if stage == "publish" else ["--threads", str(wish.cpus)]
    offline = ["--offline"] if wish.is_offline else []
    store = ["--store", wish.store_url] if wish.store_url else []
    tools = {
        name: version
        for job in run.jobs
        if stage != "verify" and job.name in targets
        for name, version in job.wanted.format.tools(job.wanted.target.options, job.name).items()
    }
    return Order(
        recipe=run.recipe.name,
        stage=stage,
        subject=subject,
        words=(verb, str(path), *more, "--out", str(wish.out), *store, *threads, *offline),
        recipe_path=str(path),
        recipe_sha256=sha256_of(path),
        recipe_text=run.recipe.text if wish.store_url else "",
        targets=targets,
        tools=tools,
        after=after,
        needs=needs or {},
        cpus=wish.cpus,
        estimated_s=estimated_s,
        is_local=is_local,
    )
