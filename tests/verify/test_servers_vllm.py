"""vLLM itself, on the CPU: `make test-servers` brings it, in an environment apart from this one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert import convert_recipe
from convert.child import Limits
from convert.formats import load_recipe
from tests.verify.opening import CHAT, LAID_OUT, TEXT, logits, opened
from verify import logprobs
from verify.parity import TEXTS
from verify.runtimes import Request

if TYPE_CHECKING:
    from pathlib import Path

    from tests.verify.conftest import Made

PYTHON = os.environ.get("VLLM_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not PYTHON, reason="VLLM_PYTHON names no Python that has vLLM"),
]


def test_vllm_says_what_transformers_does(chat: Made) -> None:
    limits = Limits(open_s=900, request_s=300)
    args = ["--enforce-eager"]
    with (
        opened("transformers", chat.source) as source,
        opened("served", chat.source, limits=limits, server="vllm", program=PYTHON, args=args) as served,
    ):
        for text in (*TEXTS, TEXT):
            assert served.tokenize(text) == source.tokenize(text)
        assert served.apply_template(CHAT) == LAID_OUT
        assert served.count(Request(messages=CHAT)) == len(source.tokenize(LAID_OUT, special=True))
        assert served.info.vocab_size == source.info.vocab_size
        assert served.force(source.info.eog_ids[0]) == ("", "end")
        for request in (Request(text="The largest", max_tokens=6), Request(messages=CHAT, max_tokens=6)):
            assert served.answer(request) == source.answer(request)
        ids = source.tokenize(TEXT * 4)[:40]
        found = np.concatenate(list(served.top_logprobs(ids, 20)))
        wanted = logprobs.log_probabilities(logits(source, ids)[20:-1])
        known = np.isfinite(found)
        assert (known.sum(axis=1) >= 64).all()
        # By default it computes in bfloat16.
        np.testing.assert_allclose(found[known], wanted[known], atol=5e-2)
        assert np.abs(found[known] - wanted[known]).mean() < 1e-2


@pytest.mark.parametrize("scheme", ["fp8", "w8a8"])
def test_vllm_computes_what_is_quantized(scheme: str, chat: Made, tmp_path: Path) -> None:
    """It rounds activations while it runs, and so may be as far from the source as a gate allows."""
    path = tmp_path / "tiny.yaml"
    path.write_text(f"model: {chat.source}\ntargets: {{compressed-tensors: {{scheme: {scheme}}}}}\n", "utf-8")
    convert_recipe(load_recipe(path), out=tmp_path / "out", threads=1, offline=True)
    made = tmp_path / "out" / "tiny" / f"compressed-tensors-{scheme}"
    limits = Limits(open_s=900, request_s=300)
    with (
        opened("transformers", chat.source) as source,
        opened(
            "served", made, limits=limits, server="vllm", program=PYTHON, args=["--enforce-eager"]
        ) as served,
    ):
        ids = source.tokenize(TEXT * 4)[:40]
        found = np.concatenate(list(served.top_logprobs(ids, 20)))
        wanted = logprobs.log_probabilities(logits(source, ids)[20:-1])
        known = np.isfinite(found)
        assert (known.sum(axis=1) >= 64).all()
        assert np.abs(found[known] - wanted[known]).mean() < 5e-2
