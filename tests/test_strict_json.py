"""JSON within limits, read and written: numbers, halves of pairs, keys, depth."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from convert.errors import Failure
from convert.model.card import front_matter
from convert.model.config import Config
from convert.model.decoder import Rope
from convert.model.forward.frequency import turning
from convert.model.source import Model
from convert.strict_json import parse_object, to_json
from convert.tokenizer.rank import read_ranks
from tests.tiny import described

if TYPE_CHECKING:
    from convert.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
# Who parses by another way reads what we wrote, or what was read by this way before.
OTHERS = {
    "convert/calibration": set[str](),
    "convert/checkpoint": set(),
    "convert/model": set(),
    "convert/recipe": set(),
    "convert/source": {"cache.py", "digest.py"},  # notes
    "convert/store": {"model_file.py", "upload.py"},  # a header read before, and marks
    "convert/tokenizer": {"facts.py", "imitation.py", "kept.py", "model.py", "pretokenizer.py"},
    "verify": {
        "answer_cache.py",
        "harness.py",
        "llama_server.py",
        "transformers_js.py",
    },  # notes, and children
}


@pytest.mark.parametrize("folder", OTHERS)
def test_what_others_wrote_is_read_by_the_one_reader(folder: str) -> None:
    found = {
        path.name
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bjson\.loads?\b", path.read_text("utf-8"))
    }
    assert found == OTHERS[folder]


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": ' + b"1" * 5000 + b"}",
        b'{"a": -' + b"1" * 41 + b"}",
        b'{"a": 1e999}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": ["\\uD83D x"]}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'{"a": "\xff"}',
        b"[]",
    ],
    ids=map(str, range(12)),
)
def test_what_no_reader_could_agree_on_is_one_line(text: bytes) -> None:
    with pytest.raises(Failure, match=r"x\.json") as caught:
        parse_object(text, "x.json", "fetch it again")
    assert len(caught.value.message) < 400


def test_whole_pairs_and_large_numbers_are_read() -> None:
    assert parse_object(b'{"a": "\\ud83d\\ude00", "b": 1' + b"0" * 30 + b"}", "x", "") == {
        "a": "😀",
        "b": 10**30,
    }
    assert parse_object(b'{"a": -Infinity}', "x", "", has_infinity=True) == {"a": -math.inf}


def test_no_number_that_is_none_is_written() -> None:
    assert json.loads(to_json({"a": [1.5, math.inf]})) == {"a": [1.5, {"__float__": "Infinity"}]}
    with pytest.raises(ValueError, match="nan"):
        to_json({"a": math.nan})


@pytest.mark.parametrize("key", ["num_hidden_layers", "vocab_size", "head_dim", "num_attention_heads"])
def test_sizes_that_no_model_has(key: str) -> None:
    for size in (10**8, 2**30, 10**400):
        with pytest.raises(Failure, match=key):
            Config({key: size}).size(key)


@pytest.mark.parametrize(
    "value", [1e-308, 1e308, 0, -1, math.inf, math.nan, pytest.param(10**400, id="long")]
)
def test_numbers_that_32_bits_do_not_hold(value: float) -> None:
    with pytest.raises(Failure, match="rope_theta"):
        Config({"rope_theta": value}).real("rope_theta")


def test_a_table_is_finite_and_of_a_size_that_fits() -> None:
    decoder = described("llama")
    with pytest.raises(Failure, match="not finite"):
        turning(decoder, Rope(1e-300, 64), 1 << 20)
    with pytest.raises(Failure, match="tables of"):
        turning(decoder, Rope(1e4, 64), 1 << 30)
    assert np.isfinite(turning(decoder, Rope(1e4, 64), 16).cosines).all()


def test_settings_of_a_source_are_sound_numbers() -> None:
    said = {"top_k": 40.5, "top_p": math.nan, "temperature": 10**400, "min_p": True}
    model = Model("m", None, described("llama"), cast("Tokenizer", None), ROOT, generation=said)
    assert model.sampling == {}
    assert replace(model, generation={"top_k": 40.0, "top_p": 0.9}).sampling == {"top_k": 40, "top_p": 0.9}


def test_ranks_beyond_every_id(tmp_path: Path) -> None:
    file = tmp_path / "x.tiktoken"
    file.write_bytes(b"YQ== 0\nYg== 9223372036854775807\n")
    with pytest.raises(Failure, match=r"x\.tiktoken:2"):
        read_ranks(file)


MULTIPLYING = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (MULTIPLYING, "values"),
        ("a: [" + "x, " * 20_000 + "x]", "values"),
        ("a: &a [*a]", "values"),
        ('license: "\\ud800"', "no YAML"),
        ("a: " + "[" * 2000, "no YAML"),
        ("a: " + "x" * 100_000, "does not end within"),
    ],
    ids=map(str, range(6)),
)  # fmt: skip
def test_front_matter_that_multiplies_is_not_read(block: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\n{block}\n---\n# A model\n", "utf-8")
    content, fault = front_matter(tmp_path)
    assert content == {}
    assert said in fault


def test_a_card_as_long_as_a_book_has_its_front_matter_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n" + "word " * 1_000_000, "utf-8")
    assert front_matter(tmp_path) == ({"license": "mit"}, "")
