"""Say in a line or two how long a conversion takes, and how to leave out what makes it slow."""

from collections.abc import Iterator
from pathlib import Path

from convert.pipeline.result import Plan, PlannedTarget
from convert.recipe import cli_name
from convert.size import duration

HOUR_S = 3600.0
# Below, a person sees the end before the sentence is read.
WORTH_A_LINE_S = 3.0


def announcement(plan: Plan, recipe: Path) -> Iterator[str]:
    """Say how long it takes and what for; of what takes hours first, with the command without it."""
    yield from leaving_out(plan, recipe)
    if plan.estimated_s < WORTH_A_LINE_S:
        return
    longest = max(plan.steps, key=lambda step: step.seconds)
    most = f", most of it {longest.limit}" if longest.seconds > plan.estimated_s / 2 else ""
    others = [step for step in plan.steps if step.seconds >= WORTH_A_LINE_S]
    parts = " + ".join(f"{step.label} {duration(step.seconds)}" for step in others) if len(others) > 1 else ""
    yield f"{about(plan)} {duration(plan.estimated_s)}{most}{f' ({parts})' if parts else ''}"


def leaving_out(plan: Plan, recipe: Path) -> Iterator[str]:
    """Give the command without the slowest targets, where the others take less than an hour."""
    if plan.estimated_s <= HOUR_S:
        return
    wanted = sorted((each for each in plan.targets if not each.is_up_to_date), key=_saves_s, reverse=True)
    left_s, slow = plan.estimated_s, []
    while wanted and left_s > HOUR_S:
        slow.append(wanted.pop(0))
        left_s -= slow[-1].saves_s
    if not wanted:
        return
    names = " and ".join(each.target for each in slow)
    only = " ".join(f"--only {each.target}" for each in plan.targets if each in wanted)
    # A recipe that was made of --to is in no file.
    command = f"modelwright convert {cli_name(recipe)} {only}" if recipe.is_file() else f"add {only}"
    yield (
        f"{names} alone: {about(plan)} {duration(plan.estimated_s - left_s)}; "
        f"the others, in {about(plan)} {duration(left_s)}: {command}"
    )


def about(plan: Plan) -> str:
    """Say how far to trust a time: a CPU's is measured, a GPU's is guessed."""
    tools = (each for each in plan.targets if not each.is_up_to_date)
    return "very roughly" if any(each.device == "cuda" for each in tools) else "about"


def _saves_s(target: PlannedTarget) -> float:
    return target.saves_s
