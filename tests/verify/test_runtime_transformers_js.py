"""transformers.js answers from our files what the source answers: a tier of its own, `make test-node`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert.model.families import family
from tests import tiny
from tests.hf import describing
from tests.onnx.source_answers import SPREAD, TOKENS, answers
from tests.verify.opening import CHAT, LAID_OUT, TEXT, logits, opened
from tests.verify.test_runtime_onnxruntime import made
from verify.runtimes import Request
from verify.runtimes.transformers_js import MODULES, PACKAGE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.verify.conftest import Made

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (MODULES / PACKAGE).is_file(), reason="`make node` installs transformers.js"),
]
NAMES = [
    name for name in tiny.rendered("onnx") if "transformers.js" in family(tiny.described(name).family).runs_in
]
QUICK = ("gpt2", "qwen2", "llama", "qwen3_moe", "gemma")


def test_it_agrees_with_the_source(chat: Made, tmp_path: Path) -> None:
    folder = made(chat, tmp_path, "transformers.js")
    with opened("transformers_js", folder) as ours, opened("transformers", chat.source) as source:
        assert (ours.info.vocab_size, ours.info.eos_id) == (tiny.VOCAB_SIZE, 511)
        assert ours.apply_template(CHAT) == LAID_OUT
        for special in (True, False):
            ids = ours.tokenize(LAID_OUT, special=special)
            assert ids == source.tokenize(LAID_OUT, special=special)
        assert np.abs(logits(ours, ids) - logits(source, ids)).max() < 1e-4
        for request in (Request(text=TEXT, max_tokens=12), Request(messages=CHAT, max_tokens=12)):
            found = [[piece.token for piece in worker.generate(request)] for worker in (ours, source)]
            assert found[0] == found[1]


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.exhaustive) for name in NAMES]
)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    source = describing.make(tmp_path / "source", tiny.Recipe(name, dtype="F32", spread=SPREAD))
    target = "onnx: {precision: fp32, layout: transformers.js}"
    folder = describing.convert_to(tmp_path, source, target) / "onnx-fp32-cpu"
    with opened("transformers_js", folder) as worker:
        found = logits(worker, TOKENS)
    assert np.abs(found - answers(source)).max() < 1e-4
