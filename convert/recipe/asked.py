"""What a recipe asks for, as a digest: reports are of exactly this."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from convert.digest import sha256_of


def asked_sha256(recipe: Any) -> str:
    """Digest what a Recipe builds and verifies; a change of `publish:` alone leaves it the same."""
    asked = recipe.model_dump(mode="json", exclude={"name", "path", "text", "targets", "publish"})
    # As before these keys were added.
    if recipe.verify.runtime is None:
        del asked["verify"]["runtime"]
    for key in ("serve", "load", "long_context"):
        if getattr(recipe.verify, key) is None:
            del asked["verify"][key]
    if not recipe.verify.tasks:
        del asked["verify"]["tasks"], asked["verify"]["task_questions"]
    for key in ("texts", "baselines", "gates_on"):
        if not getattr(recipe.verify, key):
            del asked["verify"][key]
    if recipe.verify.gates.task_drop is None:
        del asked["verify"]["gates"]["task_drop"]
    if recipe.verify.budget == type(recipe.verify).model_fields["budget"].default:
        del asked["verify"]["budget"]
    for key in ("adapter", "transform"):
        if getattr(recipe, key) is None:
            del asked[key]
    asked["targets"] = {name: each.model_dump(mode="json") for name, each in recipe.targets.items()}
    if files := named_files(recipe):
        asked["files"] = {str(path): _sha256(recipe.locate(path)) for path in files}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def named_files(recipe: Any) -> list[Path]:
    """List the files whose content decides what is built or how it is judged."""
    runtime = recipe.verify.runtime
    runtimes = runtime.values() if isinstance(runtime, dict) else [runtime] if runtime else []
    named = [
        name
        for name in (*recipe.verify.scenarios, *recipe.verify.tasks, *runtimes)
        if name.endswith((".yaml", ".yml", ".py"))
    ]
    texts = [recipe.verify.text, recipe.calibration.text if recipe.calibration else None]
    own = [value for each in recipe.targets.values() for _, value in each if isinstance(value, Path)]
    return sorted({*map(Path, named), *filter(None, texts), *own})


def _sha256(path: Path) -> str | None:
    """Digest a file's content; None where it is gone, which is another content, too."""
    try:
        return sha256_of(path)
    except OSError:
        return None
