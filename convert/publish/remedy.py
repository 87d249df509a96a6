"""What to do about a gate that failed: first what makes the artifact better, a waiver last."""

from convert.recipe import Recipe

# Of an answer, how far it is from the source's.
QUALITY = frozenset({"smoke_drop", "task_drop", "ppl_ratio", "kl_mean", "kl_p99", "top1"})
ROOM = frozenset({"size_bytes", "peak_rss_bytes", "peak_anon_bytes", "load_s"})


def remedy(gate: str, target: str, recipe: Recipe | None = None) -> str:
    """Say what may help; a foreign artifact has no recipe to change."""
    if gate in QUALITY:
        options = [each for each in recipe.targets.values() if target in each.by_target()] if recipe else []
        found = "".join(each.closer(target) for each in options) or "take a type with more bits"
    elif gate in ROOM:
        found = "take a type with fewer bits"
    else:
        found = "verify again on an idle machine, or take a type with fewer bits"
    if recipe is None:
        return found
    return (
        f"{found}; or leave it out with --only; last of all, waive it: "
        f"publish: {{waive: [{{gate: {gate}, target: {target}, reason: …}}]}}"
    )
