"""`publish` as a person runs it: what stands at home, and what a command line leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convert.formats import load_recipe
from tests.publish.artifacts import GOOD, result, write_report

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = "acme/Tiny-0.1B"
REPO = "ann/Tiny-0.1B-GGUF"
TARGETS = ("gguf-Q8_0", "gguf-F16")
CARD = b"---\nlicense: apache-2.0\nlanguage: [en]\npipeline_tag: text-generation\n---\n# Tiny\n"
RECIPE = f"""\
model: {SOURCE}
targets: {{gguf: {{quants: [Q8_0, F16]}}}}
verify: {{gates: {{kl_p99: 0.5}}}}
"""
PUBLISH = 'publish: {repo: "{user}/{model}-{target}"}\n'


@dataclass(frozen=True)
class Ran:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        return json.loads(self.out)

    @property
    def said(self) -> list[str]:
        """What went wrong; a slow machine shows progress besides."""
        return [line for line in self.err.splitlines() if line.startswith(("error: ", "hint: "))]


Run = Callable[..., Ran]


def report(home: Path, targets: tuple[str, ...] = TARGETS, **worse: float) -> None:
    """A report in which all artifacts passed, or the first did as badly as told."""
    recipe, root = load_recipe(str(home / "recipe.yaml")), home / "artifacts"
    measured = {**GOOD, "kl_p99": 0.01}
    found = [
        result(recipe, root / "recipe" / target, {**measured, **(worse if target == targets[0] else {})})
        for target in targets
    ]
    write_report(recipe, root, *found)
