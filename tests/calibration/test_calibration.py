"""Calibration text: the same windows on every run, from files of every size and fault."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from convert.calibration import windows
from convert.calibration.text import read_text
from convert.errors import Failure
from convert.recipe.model import Calibration
from tests.calibration.words import BOS, WORDS, tokenizer

TEXT = " ".join(WORDS[index * 7 % 200] for index in range(1000))


def calibration(path: Path, **settings: int) -> Calibration:
    return Calibration.model_validate({"text": path, **settings})


def write(folder: Path, text: str | bytes, name: str = "text.txt") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return Path(name)


def test_all_windows_in_their_order(tmp_path: Path) -> None:
    cut = windows(calibration(write(tmp_path, TEXT), length=64), tmp_path, tokenizer(), 4096)
    assert [len(window) for window in cut.tokens] == [64] * 15
    assert np.concatenate(cut.tokens).tolist() == [index * 7 % 200 for index in range(960)]
    assert (cut.source, cut.length, cut.token_count) == ("text.txt", 64, 960)
    assert re.fullmatch("[0-9a-f]{64}", cut.digest)


def test_the_seed_chooses(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT)

    def starts(seed: int) -> list[int]:
        settings = calibration(path, length=20, samples=5, seed=seed)
        return [int(window[0]) for window in windows(settings, tmp_path, tokenizer(), 4096).tokens]

    assert starts(0) == starts(0)
    assert len(starts(0)) == 5
    assert len({tuple(starts(seed)) for seed in range(5)}) > 1


def test_the_digest_tells_text_and_settings_apart(tmp_path: Path) -> None:
    path, other = write(tmp_path, TEXT), write(tmp_path, TEXT.replace("w7 ", "w8 "), "other.txt")
    digests = {
        windows(settings, tmp_path, tokenizer(), 4096).digest
        for settings in (
            calibration(path, length=64),
            calibration(path, length=32),
            calibration(path, length=64, samples=3),
            calibration(path, length=64, seed=1),
            calibration(other, length=64),
        )
    }
    assert len(digests) == 5


def test_a_window_is_no_longer_than_the_context(tmp_path: Path) -> None:
    cut = windows(calibration(write(tmp_path, TEXT), length=2048), tmp_path, tokenizer(), 100)
    assert (cut.length, len(cut.tokens)) == (100, 10)


def test_each_window_begins_with_bos_where_the_model_expects_one(tmp_path: Path) -> None:
    settings = calibration(write(tmp_path, TEXT), length=50)
    plain = np.concatenate(windows(settings, tmp_path, tokenizer(), 4096).tokens)
    cut = windows(settings, tmp_path, tokenizer(add_bos=True), 4096).tokens
    assert len(cut) == 20
    assert {int(window[0]) for window in cut} == {BOS}
    # The first has room made for it; in the others it stands for a token, as llama-imatrix has it.
    np.testing.assert_array_equal(cut[0][1:], plain[:49])
    np.testing.assert_array_equal(cut[1][1:], plain[50:99])


def test_a_short_text_is_one_short_window(tmp_path: Path) -> None:
    cut = windows(calibration(write(tmp_path, "w1 w2 w3 " * 11)), tmp_path, tokenizer(), 4096)
    assert (cut.length, len(cut.tokens)) == (33, 1)


@pytest.mark.parametrize(("text", "count"), [("", 0), (" \n\n", 0), ("w1 w2 " * 15, 30)])
def test_too_short_a_text_is_refused_with_counts(text: str, count: int, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=rf"text\.txt: the text makes {count} tokens, which is fewer than 32"):
        windows(calibration(write(tmp_path, text)), tmp_path, tokenizer(), 4096)


def test_a_text_of_unknowns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"60 of the text's 100 tokens are unknown"):
        windows(calibration(write(tmp_path, "w1 w2 x y z " * 20)), tmp_path, tokenizer(), 4096)


def test_the_name_of_a_special_token_is_text(tmp_path: Path) -> None:
    cut = windows(calibration(write(tmp_path, "<s>w1 w2 w3 " * 20), length=60), tmp_path, tokenizer(), 4096)
    assert BOS not in cut.tokens[0]


def test_jsonl_gives_the_text_of_each_line(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"w{index} w{index + 1}", "id": index}) for index in range(30)]
    path = write(tmp_path, "\n".join([*lines[:3], "", *lines[3:]]), "texts.jsonl")
    cut = windows(calibration(path, length=60), tmp_path, tokenizer(), 4096)
    assert cut.tokens[0].tolist() == [index + step for index in range(30) for step in (0, 1)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"text": "w1"}\n{"text": w2}\n', r"the line at byte 15 is not valid JSON"),
        ('{"text": "w1"}\n["w2"]\n', r"the line at byte 15 has no `text`"),
        ('{"words": "w1"}', r"the line at byte 0 has no `text`"),
        ('{"text": 7}', r"the line at byte 0 has no `text`"),
        ("[" * 100_000, r"the line at byte 0 is not valid JSON"),
    ],
)
def test_faulty_jsonl_is_refused_by_its_line(text: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=what):
        windows(calibration(write(tmp_path, text, "a.jsonl")), tmp_path, tokenizer(), 4096)


@pytest.mark.parametrize(
    "text", [TEXT.encode("utf-16"), b"w1 w2\n" * 40 + b"\xff", b"w1 " * 40 + b"\xe4\xbd"]
)
def test_text_that_is_not_utf8_is_refused(text: bytes, tmp_path: Path) -> None:
    with pytest.raises(Failure, match="not UTF-8 text"):
        windows(calibration(write(tmp_path, text)), tmp_path, tokenizer(), 4096)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    cut = windows(calibration(write(tmp_path, b"\xef\xbb\xbf" + TEXT.encode())), tmp_path, tokenizer(), 4096)
    assert int(cut.tokens[0][0]) == 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"none\.txt: cannot be read: No such file"):
        windows(calibration(Path("none.txt")), tmp_path, tokenizer(), 4096)


@pytest.mark.parametrize("end", ["\n", " "])
def test_a_long_text_is_read_in_stretches(end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convert.calibration.text.PIECE_BYTES", 100)
    path = tmp_path / "text.txt"
    lines = [f"太阳系🚀{number}{end}" for number in range(500)]
    path.write_text("".join(lines))
    assert "".join(read_text(path, 1 << 20, 0)) == "".join(lines)
    drawn = ["".join(read_text(path, 1000, seed)) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3
    for text in drawn:
        assert 800 < len(text.encode()) < 1200
        if end == "\n":
            assert set(text.splitlines(keepends=True)) <= set(lines)


def test_each_line_belongs_to_one_stretch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{number}," * (number % 90) for number in range(100)]
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    monkeypatch.setattr("convert.calibration.text.PIECE_BYTES", 50)
    size_bytes = path.stat().st_size
    monkeypatch.setattr("convert.calibration.text._stretches", lambda *_: cut(size_bytes))
    assert "".join(read_text(path, 0, 0)) == "".join(text + "\n" for text in texts)


def cut(size_bytes: int) -> list[tuple[int, int]]:
    return [(first, min(size_bytes, first + 50)) for first in range(0, size_bytes, 50)]
