"""vLLM itself, on the CPU: `make test-servers` brings it, in an environment apart from this one."""

from __future__ import annotations

import os
from pathlib import Path
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
    from tests.verify.conftest import Made
    from verify.worker import Worker

PYTHON = os.environ.get("VLLM_PYTHON", "")
CPU = Path("/proc/cpuinfo")
HAS_AVX512 = CPU.is_file() and "avx512f" in CPU.read_text("utf-8")
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
    folder = made(chat, tmp_path, scheme, "")
    with opened("transformers", chat.source) as source, serve(folder) as served:
        assert distance(served, source) < 5e-2


@pytest.mark.skipif(not HAS_AVX512, reason="vLLM's wheel packs 4 bits for AVX-512 alone")
@pytest.mark.parametrize("symmetric", ["true", "false"])
def test_vllm_reads_what_is_packed(symmetric: str, chat: Made, tmp_path: Path) -> None:
    """4 bits are far from the source, and what Transformers widens them to is not."""
    folder = made(chat, tmp_path, "w4a16", f", group_size: 32, symmetric: {symmetric}")
    with opened("compressed_tensors", folder) as widened, serve(folder) as served:
        assert distance(served, widened) < 1e-2


def made(chat: Made, home: Path, scheme: str, options: str) -> Path:
    path = home / "tiny.yaml"
    target = f"compressed-tensors: {{scheme: {scheme}{options}}}"
    path.write_text(f"model: {chat.source}\ntargets: {{{target}}}\n", "utf-8")
    convert_recipe(load_recipe(path), out=home / "out", threads=1, offline=True)
    return home / "out" / "tiny" / f"compressed-tensors-{scheme}"


def serve(folder: Path) -> Worker:
    limits = Limits(open_s=900, request_s=300)
    return opened("served", folder, limits=limits, server="vllm", program=PYTHON, args=["--enforce-eager"])


def distance(served: Worker, reference: Worker) -> float:
    """Return the mean distance of the logprobs that a server gives."""
    ids = reference.tokenize(TEXT * 4)[:40]
    found = np.concatenate(list(served.top_logprobs(ids, 20)))
    wanted = logprobs.log_probabilities(logits(reference, ids)[20:-1])
    known = np.isfinite(found)
    assert (known.sum(axis=1) >= 64).all()
    return float(np.abs(found[known] - wanted[known]).mean())
