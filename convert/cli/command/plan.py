"""`modelwright plan`: what a conversion would read, build and write, before any of it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.cli.deviations import Differing, deviations
from convert.cli.option import OFFLINE, ONLY, OUT, RECIPE, THREADS, TO, VERBOSE, answering, asked
from convert.cli.text import facts, parameters, table
from convert.size import duration, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert import Options, Plan, Recipe
    from convert.cli.output import Output
    from convert.pipeline.result import PlannedTarget


@answering
@RECIPE
@TO
@ONLY
@OUT
@THREADS
@OFFLINE
@VERBOSE
def command(output: Output, *, recipe: str, targets: str | None, options: Options, is_verbose: bool) -> None:
    """Show what a conversion would read, build and write.

    No weights are downloaded but an adapter's. Sizes are exact, memory is a bound, time is an
    estimate without the download. A model that cannot be converted, a disk that is too small, or
    a folder that was not made here and is where an artifact would be, is refused here.
    """
    from convert import plan_recipe  # noqa: PLC0415 - pydantic
    from convert.pipeline.stage.estimate import refuse_impossible  # noqa: PLC0415 - brings the formats

    loaded = asked(recipe, targets)
    plan = plan_recipe(loaded, **options)
    output.answer(plan, lambda: _lines(plan, loaded, is_verbose=is_verbose))
    refuse_impossible(plan, options["out"])


def _lines(plan: Plan, recipe: Recipe, *, is_verbose: bool) -> Iterator[str]:
    from convert.pipeline.slow import about, leaving_out  # noqa: PLC0415 - brings the formats

    tools = [target for target in plan.targets if target.device and not target.is_up_to_date]
    is_done = all(target.is_up_to_date for target in plan.targets)
    download = f", {size(plan.download_bytes)} of it to download" if plan.download_bytes else ", all here"
    yield from facts(
        [
            ("model", f"{plan.model} at {plan.commit}" if plan.commit else f"{plan.model}, a local folder"),
            *_adapter(plan),
            ("family", f"{plan.family}, {parameters(plan.parameter_count)}"),
            ("read", "nothing" if is_done else size(plan.read_bytes) + download),
            ("written", "nothing" if is_done else size(plan.written_bytes)),
            ("disk", f"{size(plan.disk_needed_bytes)} needed, {size(plan.disk_free_bytes)} free"),
            ("memory", "hardly any" if is_done else f"{size(plan.peak_memory_bytes)} at most"),
            ("time", "none" if is_done else f"{about(plan)} {duration(plan.estimated_s)}"),
        ]
    )
    yield ""
    rows = [
        (target.target, size(target.size_bytes), _state(target), file)
        for target in plan.targets
        for file in [target.files[0].path if len(target.files) == 1 else f"{len(target.files)} files"]
    ]
    yield from table(("artifact", "size", "state", "file"), rows, right="size")
    if tools:
        yield ""
        names = {"cpu": "the CPU", "cuda": "the GPU"}
        yield from (
            f"{each.target} is made on {names.get(str(each.device), each.device)} after the others, "
            f"in {about(plan)} {duration(each.tool_s)}"
            for each in tools
        )
    if advice := list(leaving_out(plan, recipe.path)):
        yield ""
        yield from advice
    differing = {target.target: _differing(target, plan) for target in plan.targets}
    if said := list(deviations(differing, is_verbose=is_verbose)):
        yield ""
        yield from said


def _differing(target: PlannedTarget, plan: Plan) -> Differing:
    bits = None if target.device else 8 * target.size_bytes / plan.parameter_count
    return Differing(target.deviations, target.matrices, bits)


def _adapter(plan: Plan) -> Iterator[tuple[str, str]]:
    if plan.adapter:
        commit = f" at {plan.adapter_commit}" if plan.adapter_commit else ", a local folder"
        yield "adapter", f"{plan.adapter}{commit}"


def _state(target: PlannedTarget) -> str:
    if target.is_blocked:
        return "blocked"
    return "up to date" if target.is_up_to_date else "to build"
