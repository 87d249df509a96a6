"""Adding a format is one folder: one from elsewhere is planned, built, recorded and refused like our own."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert import convert_recipe, formats, plan_recipe
from convert.errors import UsageFailure
from convert.formats import option_models
from convert.recipe import json_schema, load
from convert.store import read_manifest
from tests import tiny
from tests.docs.walkthrough import walk
from tests.hf import describing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def _tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for path, text in walk("A format").files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "convert" / "formats")])
    yield
    for name in [name for name in sys.modules if name.startswith("convert.formats.tables")]:
        del sys.modules[name]


@pytest.mark.usefixtures("_tables")
def test_a_format_is_one_folder(tmp_path: Path) -> None:
    source = describing.make(tmp_path / "source", tiny.Recipe("qwen2"))
    path = tmp_path / "both.yaml"
    path.write_text(f"model: {source}\ntargets:\n  tables: {{dtype: F16}}\n  gguf: {{quants: [F16]}}\n")
    recipe = load(path, option_models())
    planned = plan_recipe(recipe, out=tmp_path / "out", offline=True)
    assert {target.target: target.files[0].path for target in planned.targets} == {
        "tables": "both.table",
        "gguf-F16": "both-F16.gguf",
    }
    convert_recipe(recipe, out=tmp_path / "out", offline=True)
    folder = tmp_path / "out" / "both" / "tables"
    manifest = read_manifest(folder)
    assert (manifest.format, manifest.target, manifest.options) == ("tables", "tables", {"dtype": "F16"})
    made = tiny.tensors(tiny.Recipe("qwen2"))["model.embed_tokens.weight"]
    stored = tiny.stored(made, "BF16").astype(np.uint32) << 16
    assert (folder / "both.table").read_bytes() == stored.view(np.float32).astype(np.float16).tobytes()
    assert "The embedding alone, row by row." in json.dumps(json_schema(option_models()))


@pytest.mark.usefixtures("_tables")
def test_it_is_asked_about_features_and_options(tmp_path: Path) -> None:
    source = describing.make(tmp_path / "source", tiny.Recipe("gemma"))
    path = tmp_path / "gemma.yaml"
    path.write_text(f"model: {source}\ntargets:\n  tables: {{}}\n")
    with pytest.raises(UsageFailure, match=r"targets\.tables: cannot express GELU by its tanh form and norm"):
        plan_recipe(load(path, option_models()), out=tmp_path / "out", offline=True)
    path.write_text(f"model: {source}\ntargets:\n  tables: {{dtype: F8}}\n")
    with pytest.raises(UsageFailure, match=r"targets.tables.dtype: 'F8' is not known"):
        load(path, option_models())
