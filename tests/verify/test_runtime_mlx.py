"""MLX's checkpoints in mlx-lm: what it says of a model agrees with the model's source."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert import convert_recipe, recipe
from convert.child import ChildFailure
from convert.formats import option_models
from tests import tiny
from tests.verify.opening import CHAT, LAID_OUT, TEXT, logits, opened
from verify.runtimes import Request, runtimes_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.verify.conftest import Made
    from verify.worker import Worker


@pytest.fixture(scope="module")
def made(chat: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("mlx")
    path = home / "tiny.yaml"
    path.write_text(f"model: {chat.source}\ntargets: {{mlx: {{quants: [fp32, 4bit]}}}}\n", "utf-8")
    convert_recipe(recipe.load(path, option_models()), out=home / "out", threads=1, offline=True)
    return home / "out" / "tiny"


@pytest.fixture(scope="module")
def mlx(made: Path) -> Iterator[Worker]:
    with opened("mlx_lm", made / "mlx-fp32") as worker:
        yield worker


def test_folders_without_a_manifest_are_known_by_what_they_say(made: Path, tmp_path: Path) -> None:
    for name in ("mlx-fp32", "mlx-4bit"):
        folder = shutil.copytree(made / name, tmp_path / name)
        (folder / "manifest.json").unlink()
        assert runtimes_for(folder) == ("mlx_lm",)


@pytest.mark.slow
def test_it_says_what_it_has_opened_and_agrees_with_the_source(mlx: Worker, chat: Made) -> None:
    info = mlx.info
    assert (info.context, info.context_length, info.vocab_size) == (256, 256, tiny.VOCAB_SIZE)
    # 4 layers x keys and values x 2 heads x 32 values of 4 bytes
    assert (info.eos_id, info.kv_bytes_per_token) == (511, 2048)
    assert mlx.versions.keys() == {"mlx", "mlx-lm"}
    assert mlx.apply_template(CHAT) == LAID_OUT
    ids = mlx.tokenize(TEXT)
    with opened("transformers", chat.source) as source:
        assert ids == source.tokenize(TEXT)
        assert np.abs(logits(mlx, ids) - logits(source, ids)).max() < 1e-4
        for request in (Request(text=TEXT, max_tokens=12), Request(messages=CHAT, max_tokens=12)):
            answers = [[piece.token for piece in worker.generate(request)] for worker in (mlx, source)]
            assert answers[0] == answers[1]
    before = mlx.cache_bytes()
    list(mlx.logits(list(range(3, 250))))
    assert mlx.cache_bytes() >= before > 0


@pytest.mark.slow
def test_widened_weights_answer_as_packed_ones(made: Path) -> None:
    ids = list(range(3, 40))
    found = {}
    for weights, said in (("auto", "widened to float32"), ("packed", "as stored")):
        with opened("mlx_lm", made / "mlx-4bit", weights=weights) as worker:
            assert worker.info.notes["weights"] == said
            found[weights] = logits(worker, ids)
    assert np.abs(found["auto"] - found["packed"]).max() < 1e-3


@pytest.mark.slow
def test_a_config_of_another_model_is_refused_in_mlx_lm_s_words(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "mlx-fp32", tmp_path / "changed")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}), "utf-8")
    with pytest.raises(ChildFailure, match="mlx-lm refuses it: ValueError"):
        opened("mlx_lm", folder)
