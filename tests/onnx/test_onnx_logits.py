"""An ONNX graph answers in onnxruntime-genai what its source answers in Transformers."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime_genai
import pytest

from tests import tiny
from tests.onnx import genai
from tests.onnx.source_answers import TOKENS, answers, variant

if TYPE_CHECKING:
    from pathlib import Path

LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0 + 0.01 * number for number in range(16)],
    "long_factor": [2.0 + 0.1 * number for number in range(16)],
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


def longrope(original: int, whole: int) -> tiny.Recipe:
    return variant(
        "phi3",
        num_hidden_layers=2,
        original_max_position_embeddings=original,
        max_position_embeddings=whole,
        rope_scaling=LONGROPE,
    )


VARIANTS = {
    **{name: variant(name) for name in tiny.rendered("onnx")},
    "gpt2-untied": variant("gpt2", tie_word_embeddings=False),
    "qwen2-untied": variant("qwen2", tie_word_embeddings=False),
    "qwen2-yarn": variant("qwen2", rope_scaling=YARN),
    "llama-linear": variant("llama", rope_scaling={"rope_type": "linear", "factor": 2.0}),
    "llama-biased": variant("llama", attention_bias=True, mlp_bias=True, rope_scaling=None),
    "mistral-window": variant("mistral", sliding_window=9),
    "phi3-window": variant("phi3", sliding_window=16),
    "phi3-partial": variant("phi3", partial_rotary_factor=0.5),
    "phi3-short": longrope(128, 256),
    "phi3-long": longrope(64, 256),
}
QUICK = (*tiny.sample(tiny.rendered("onnx")), "mistral-window", "phi3-long")
QUICK_IN_16_BITS = (("qwen3", "cuda"), ("gpt2", "cpu"))


@pytest.mark.parametrize("name", tiny.cases_of(VARIANTS, QUICK))
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "model", VARIANTS[name])
    artifact = genai.convert_folder(folder, tmp_path / "out", precision="fp32")
    wanted = answers(folder)
    for way, chunks in {
        "whole": [TOKENS],
        "chunked": [TOKENS[:37], TOKENS[37:38], TOKENS[38:]],
        "step by step": [[token] for token in TOKENS],
    }.items():
        if name == "phi3-long" and way != "whole":
            continue  # what came before the change of factors stays as it was turned; a deviation says so
        assert np.abs(genai.logits(artifact, chunks) - wanted).max() < 1e-4, way


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        case if case in QUICK_IN_16_BITS else pytest.param(*case, marks=pytest.mark.slow)
        for case in itertools.product(
            ("gpt2", "qwen2", "qwen3", "gemma", "llama-biased", "phi3-short"), ("cpu", "cuda")
        )
    ],
)
def test_sixteen_bits_cost_little(name: str, provider: str, tmp_path: Path) -> None:
    """The graph for CUDA computes in 16 bits, and runs on a CPU too."""
    folder = tiny.make(tmp_path / "model", VARIANTS[name])
    artifact = genai.convert_folder(folder, tmp_path / "out", precision="fp16", provider=provider)
    found = genai.logits(artifact, [TOKENS[:60], TOKENS[60:]])
    assert np.abs(found - answers(folder)).max() < (0.02 if provider == "cuda" else 0.004)


@pytest.mark.slow
def test_phi3_reads_a_text_anew_that_grows_beyond_its_first_length(tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "model", longrope(4096, 8192))
    artifact = genai.convert_folder(folder, tmp_path / "out", precision="fp32")
    model = onnxruntime_genai.Model(str(artifact))
    params = onnxruntime_genai.GeneratorParams(model)
    params.set_search_options(max_length=4200)
    generator = onnxruntime_genai.Generator(model, params)
    text = np.random.default_rng(0).integers(3, tiny.VOCAB_SIZE, (1, 4090))
    generator.append_tokens(text.astype(np.int32))
    while len(generator.get_sequence(0)) < 4103:
        generator.generate_next_token()
    wanted = genai.logits(artifact, [generator.get_sequence(0).tolist()])[-1]
    assert np.abs(generator.get_logits()[0, 0] - wanted).max() < 1e-4
