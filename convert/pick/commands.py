"""Commands of an answer: how it is built and verified, and how it is run."""

import json
import shlex
from pathlib import Path

from convert.formats import option_models
from convert.pick.candidate import Candidate, recipe_name
from convert.pick.fit import Fit
from convert.pick.need import Need
from convert.recipe.draft import draft, name_for
from convert.recipe.shorthand import read_targets


def build(candidate: Candidate) -> str | None:
    """Return what builds and verifies it, or downloads it; None where that is done."""
    if candidate.shipped:
        return candidate.shipped.get
    name = recipe_name(candidate)
    if candidate.found and candidate.found.result.passed and not candidate.is_failed:
        return None
    if candidate.is_built:
        subject = f"{name} --only {candidate.target}" if name and candidate.is_in_recipe else candidate.folder
        return f"modelwright verify {subject}"
    if name and candidate.is_in_recipe:
        return f"modelwright run {name} --only {candidate.target}"
    model = candidate.recipe.model if candidate.recipe else candidate.model.name
    return f"modelwright run {model} --to {candidate.spelled}"


def names(candidate: Candidate) -> dict[str, str]:
    """Return what commands call it: its folder, its file where it has one, and a short name."""
    if shipped := candidate.shipped:
        return {
            **_folders(shipped.folder),
            "file": shlex.quote(shipped.file),
            "file_name": shlex.quote(shipped.file.rpartition("/")[2]),
            "name": shipped.name,
        }
    folder = _folder(candidate)
    title = candidate.model.name.rpartition("/")[2]
    file_name = f"{title}-{candidate.target.partition('-')[2]}.gguf"
    if candidate.is_built and candidate.folder:
        found = sorted(candidate.folder.glob("*.gguf"))
        file_name = found[0].name if found else file_name
    return {
        **_folders(str(folder)),
        "file": shlex.quote(str(folder / file_name)),
        "file_name": shlex.quote(file_name),
        "name": name_for(candidate.label),
    }


def _folders(folder: str) -> dict[str, str]:
    """Return a folder for a shell, and its two parts as words of another language."""
    parent, _, base = folder.rpartition("/")
    return {"folder": shlex.quote(folder), "parent": parent or ".", "base": base}


def run(fit: Fit, need: Need) -> str:
    """Return what runs it, in the runtime that was chosen."""
    template = fit.runtime.serve if need.users > 1 and fit.runtime.serve else fit.runtime.run
    return template.format(
        **names(fit.candidate),
        context=need.context,
        users=need.users,
        all_tokens=need.context * need.users,
        sequences=max(need.users, min(fit.sequences // fit.replicas, 256)),
        parallel=f" --tensor-parallel-size {fit.parallel}" if fit.parallel > 1 else "",
        tp_size=f" --tp_size {fit.parallel}" if fit.parallel > 1 else "",
    )


def _folder(candidate: Candidate) -> Path:
    if candidate.is_in_recipe and candidate.folder:
        return candidate.folder
    model = candidate.recipe.model if candidate.recipe else candidate.model.name
    return Path("artifacts", name_for(model), candidate.target)


def recipe(fit: Fit, comment: str) -> str:
    """Write the recipe that builds the answer."""
    candidate = fit.candidate
    formats = option_models()
    targets = read_targets(candidate.spelled, formats)
    if candidate.is_in_recipe:
        said = json.loads(candidate.options.model_dump_json(exclude_unset=True))
        targets[candidate.format_name] = {**said, **targets[candidate.format_name]}
    model = candidate.recipe.model if candidate.recipe else candidate.model.name
    if candidate.recipe and candidate.recipe.folder:
        model = str(candidate.recipe.folder.resolve())
    return draft(model, targets, formats, comment=comment)
