"""Tensors and config are those of llmcompressor itself, where LLMCOMPRESSOR names the folder it is in.

It wants another version of Transformers than this project, so it is installed apart:

    pip install --no-deps --target build/llmcompressor llmcompressor loguru
    LLMCOMPRESSOR=build/llmcompressor python -m pytest -m apart tests/compressed
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.compressed.against_llmcompressor import FAMILIES, compare

if TYPE_CHECKING:
    from pathlib import Path

# Gate and up of experts, and what latent attention begins with.
APART = (".experts.", ".shared_experts.", ".q_a_proj.", ".kv_a_proj_with_mqa.")
PLACE = os.environ.get("LLMCOMPRESSOR", "")
pytestmark = [
    pytest.mark.apart,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not PLACE, reason="LLMCOMPRESSOR names no folder"),
]


@pytest.mark.parametrize("family", FAMILIES)
def test_tensors_and_config_are_llmcompressor_s(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, PLACE])
    from llmcompressor.entrypoints.model_free import model_free_ptq  # noqa: PLC0415 - found by its own path

    for name, count, differing, is_same in compare(family, tmp_path, model_free_ptq):
        assert count > 10
        assert is_same, name
        # vLLM wants one scale of NVFP4 for what it multiplies by at once, and it gives one each to these.
        allowed = APART if name.endswith("nvfp4a16") else ()
        assert not [each for each in differing if not any(part in each for part in allowed)], name
