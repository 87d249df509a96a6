"""Artifacts with one thing wrong with them, each made from a sound one."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import gguf

from convert import convert_recipe, recipe
from convert.formats import option_models
from tests import tiny
from tests.verify.conftest import write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

# Weights of this spread make sharp probabilities, which a mistake in one layer changes much.
SPREAD = 0.08
MODEL = tiny.Recipe("qwen2", {"eos_token_id": 511, "bos_token_id": None}, dtype="F32", spread=SPREAD)

# One short question, for who wants the commands and not the answers.
PACK = """\
scenario: searchqa
language: en
prompts: {ask: "Materials:\\n{materials}\\nQuestion: {question}"}
max_tokens: 8
completion: {cue: "Answer:"}
dialogues:
  - name: bridge
    materials: [The bridge was built by Ann in 1957. It is long., Rivers are wet.]
    turns: [{prompt: ask, question: "Who built the bridge?", checks: {not_empty: true}, reference: Ann}]
"""


def make_source(folder: Path) -> Path:
    """A model of random weights that speaks ChatML."""
    made = tiny.make(folder, MODEL)
    write_tokenizer(made)
    return made


def write_pack(path: Path) -> None:
    """A pack of one dialogue."""
    path.write_text(PACK, encoding="utf-8")


def copy_with(source: Path, folder: Path, weights: Mapping[str, NDArray[np.float32]]) -> Path:
    """The same model with some weights of another kind."""
    shutil.copytree(source, folder)
    tiny.write_safetensors(folder / "model.safetensors", {**tiny.tensors(MODEL), **weights}, "F32")
    return folder


def copy_with_config(source: Path, folder: Path, changes: Mapping[str, Any]) -> Path:
    """The same weights under another config."""
    shutil.copytree(source, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    return folder


def convert(source: Path, home: Path, quants: Sequence[str]) -> dict[str, Path]:
    """The artifacts' folders, by quant."""
    home.mkdir(parents=True, exist_ok=True)
    text = f"model: {source}\ntargets:\n  gguf: {{quants: [{', '.join(quants)}]}}\n"
    (home / "m.yaml").write_text(text, "utf-8")
    made = recipe.load(home / "m.yaml", option_models())
    convert_recipe(made, out=home / "out", threads=1, offline=True)
    return {quant: home / "out" / "m" / f"gguf-{quant}" for quant in quants}


def file_of(folder: Path) -> Path:
    """The one GGUF in a folder."""
    (file,) = folder.glob("*.gguf")
    return file


def rewrite(file: Path, target: Path, changes: Mapping[str, Any]) -> Path:
    """The same tensors under other key-values; None removes one."""
    reader = gguf.GGUFReader(file)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if (
            key.startswith("GGUF.")
            or key == "general.architecture"
            or (key in changes and changes[key] is None)
        ):
            continue
        value = changes.get(key, field.contents())
        inner = field.types[1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def field(file: Path, key: str) -> Any:
    """One key's value."""
    return gguf.GGUFReader(file).fields[key].contents()
