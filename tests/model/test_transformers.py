"""Each family's example is a model of Transformers: tensors of those names and shapes, and no others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from convert.checkpoint import open_checkpoint
from convert.model.binding import bind
from convert.model.config import read_config
from convert.model.families import describe, family, supported
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

WITH_A_CLASS = [
    name for name, config in tiny.CONFIGS.items() if family(config["model_type"]).canonical is None
]


def saved(name: str, folder: Path) -> Path:
    """Let Transformers make an example and save it; its weights are never looked at."""
    config = tiny.CONFIGS[name]
    given = folder / "given"
    given.mkdir()
    (given / "config.json").write_text(json.dumps(config), "utf-8")
    known = config.get("architectures", family(config["model_type"]).classes)[0]
    read: Any = transformers.AutoConfig.from_pretrained(given)
    torch.set_num_threads(1)
    with torch.device("meta"):
        model = getattr(transformers, known)(read)
    # Weights that are no numbers yet cannot be saved, and filling them in by chance takes longer than zeros.
    model.to_empty(device="cpu")
    model.tie_weights()
    model.save_pretrained(folder / "saved")
    return folder / "saved"


@pytest.mark.parametrize("name", WITH_A_CLASS)
def test_the_example_is_what_transformers_saves(name: str, tmp_path: Path) -> None:
    folder = saved(name, tmp_path)
    found, decoder = describe(read_config(folder))
    with open_checkpoint(folder) as checkpoint:
        theirs = {tensor: info.shape for tensor, info in checkpoint.tensors.items()}
        bound = bind(decoder, found.naming, checkpoint.tensors)
    assert theirs == tiny.shapes(tiny.Recipe(name))
    assert (bound.ignored, bound.left_out) == ((), {})
    assert decoder == tiny.described(name), "the config that Transformers saves says something else"


def test_a_family_says_how_it_is_known_where_transformers_has_no_class() -> None:
    assert {name for name in supported() if name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES} == {
        name for name in supported() if name not in WITH_A_CLASS
    }
