"""CTranslate2's folders in its own runtime: what it says of a model agrees with the model's source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert import convert_recipe, recipe
from convert.formats import option_models
from tests import tiny
from tests.verify.opening import CHAT, LAID_OUT, TEXT, logits, opened
from verify.runtimes import Request, runtimes_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.verify.conftest import Made


@pytest.fixture(scope="module")
def made(chat: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("ctranslate2")
    path = home / "tiny.yaml"
    path.write_text(f"model: {chat.source}\ntargets: {{ctranslate2: [float32]}}\n", "utf-8")
    convert_recipe(recipe.load(path, option_models()), out=home / "out", threads=1, offline=True)
    return home / "out" / "tiny" / "ctranslate2-float32"


@pytest.mark.slow
def test_it_says_what_it_has_opened_and_agrees_with_the_source(made: Path, chat: Made) -> None:
    (made / "manifest.json").unlink()
    assert runtimes_for(made) == ("ctranslate2",)
    with opened("ctranslate2", made) as runtime, opened("transformers", chat.source) as source:
        assert (runtime.info.vocab_size, runtime.info.eos_id) == (tiny.VOCAB_SIZE, 511)
        assert runtime.apply_template(CHAT) == LAID_OUT
        ids = runtime.tokenize(TEXT)
        assert ids == source.tokenize(TEXT)
        assert np.abs(logits(runtime, ids) - logits(source, ids)).max() < 1e-4
        for ignores_end in (False, True):
            request = Request(ids=tuple(ids), max_tokens=12, ignores_end=ignores_end)
            mine, wanted = list(runtime.generate(request)), list(source.generate(request))
            assert [each.token for each in mine] == [each.token for each in wanted]
            assert mine[-1].end == wanted[-1].end
