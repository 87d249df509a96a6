"""Recipes for gptq and awq on tiny models, and a quantiser that only copies."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from convert import convert_recipe
from convert.formats import option_models
from convert.formats.gptq import gptqmodel as gptq_format
from convert.quantizer import Job, Outcome, Quantized
from convert.recipe import Recipe, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. " * 40


def recipe(place: Path, source: Path, targets: str, calibration: str = "samples: 4, length: 64") -> Recipe:
    """Write a recipe beside a text, and read it."""
    (place / "text.txt").write_text(TEXT, "utf-8")
    path = place / "recipe.yaml"
    path.write_text(
        f"model: {source}\ntargets:\n  {targets}\ncalibration: {{text: text.txt, {calibration}}}\n", "utf-8"
    )
    return load(path, option_models())


def convert(place: Path, source: Path, targets: str, **more: Any) -> Path:
    """Convert by such a recipe; give the folder of artifacts."""
    out = place / "artifacts"
    convert_recipe(recipe(place, source, targets), out=out, threads=2, offline=True, **more)
    return out / "recipe"


def copying(
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[Job], object] = id,
    afterwards: Callable[[Job, Outcome], Outcome] = lambda _, outcome: outcome,
) -> list[Job]:
    """Put a quantiser in place of GPTQModel that hands back what it is fed; gives the jobs it got."""
    jobs: list[Job] = []

    def quantize(job: Job, **_: Any) -> Outcome:
        jobs.append(job)
        meanwhile(job)
        for path in job.source.iterdir():
            shutil.copyfile(path, job.out / path.name)
        return afterwards(job, Outcome((Quantized("model.layers.0.mlp.up_proj", 0.1, 0.06),), "cpu", {}, 0))

    monkeypatch.setattr(gptq_format, "quantize", quantize)
    return jobs
