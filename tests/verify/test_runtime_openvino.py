"""GGUF in OpenVINO GenAI: it answers as llama.cpp does, and what it cannot read is refused in its words."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from convert import convert_recipe
from convert.child import ChildFailure
from convert.formats import load_recipe
from tests.hf import describing
from tests.tiny import Recipe
from tests.verify.opening import CHAT, opened
from verify.runtimes import Request

MODELS = Path(__file__).parents[2] / "recipes/models"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("openvino_genai"), reason="openvino-genai is not installed"),
]


def made(source: str | Path, place: Path) -> Path:
    """Convert to F16, where both compute with the same weights and round none of what they read."""
    path = place / "tiny.yaml"
    path.write_text(f"model: {source}\ntargets: {{gguf: [F16]}}\n", "utf-8")
    convert_recipe(load_recipe(path), out=place / "out", threads=1, offline=True)
    return place / "out" / "tiny" / "gguf-F16"


def test_it_answers_as_llama_cpp_does(tmp_path: Path) -> None:
    folder = made(MODELS / "tiny-qwen", tmp_path)
    with opened("openvino_genai", folder, activations="float32") as one, opened("llama_cpp", folder) as other:
        text = other.apply_template(CHAT)
        assert one.apply_template(CHAT) == text
        ids = tuple(other.tokenize(text, special=True))
        for ignores_end in (False, True):
            request = Request(ids=ids, max_tokens=16, ignores_end=ignores_end)
            mine, wanted = list(one.generate(request)), list(other.generate(request))
            assert [each.token for each in mine] == [each.token for each in wanted]
            assert (mine[-1].end, len(mine)) == (wanted[-1].end, len(wanted))


def test_a_family_that_it_does_not_know_is_refused_in_its_words(tmp_path: Path) -> None:
    folder = made(describing.make(tmp_path / "source", Recipe("gemma")), tmp_path)
    with pytest.raises(ChildFailure, match=r"OpenVINO GenAI refuses it: .*Unsupported model architecture"):
        opened("openvino_genai", folder)
