"""A large vocabulary is read once: the next time it comes from a note, unless anything has changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convert.errors import Failure
from convert.formats.gguf.joining import vocabulary_model
from convert.tokenizer import Tokenizer, kept, load, load_kept
from tests.tokenizer.vocabularies import (
    copy_of,
    gemma_folder,
    gpt2_folder,
    llama3_folder,
    qwen_folder,
    small_qwen_folder,
    spm_folder,
    write_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "llama": llama3_folder,
    "gemma": gemma_folder,
    "qwen": small_qwen_folder,
    "spm": spm_folder,
    "gpt2": gpt2_folder,
    "large qwen": qwen_folder,
}
LARGE = dict.fromkeys(("gpt2", "large qwen"), pytest.mark.slow)
FAMILIES = {"spm": "llama", "large qwen": "qwen"}
VOCAB_SIZE = 152_000


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """List the folders that are read in full."""
    found: list[Path] = []

    def counted(folder: Path, *rest: Any) -> Tokenizer:
        found.append(folder)
        return load(folder, *rest)

    monkeypatch.setattr(kept, "load", counted)
    return found


def _twice(notes: Path, folder: Path, family: str = "llama") -> tuple[Tokenizer, Tokenizer]:
    first, second = (load_kept(notes, folder, family, {}, VOCAB_SIZE) for _ in range(2))
    return first, second


@pytest.mark.parametrize("name", [pytest.param(name, marks=LARGE.get(name, ())) for name in FOLDERS])
def test_a_note_gives_the_same_tokenizer(name: str, tmp_path: Path, reads: list[Path]) -> None:
    folder = FOLDERS[name]()
    first, second = _twice(tmp_path, folder, FAMILIES.get(name, name))
    assert reads == [folder]
    assert first == second == load(folder, FAMILIES.get(name, name), {}, VOCAB_SIZE)
    assert (second.pre, vocabulary_model(second)) == (first.pre, vocabulary_model(first))
    assert second.split_differently == first.split_differently
    if name in ("gemma", "spm"):
        assert second.spacing == first.spacing


def test_a_small_vocabulary_is_not_kept(tmp_path: Path, reads: list[Path]) -> None:
    for _ in range(2):
        load_kept(tmp_path, llama3_folder(), "llama", {}, 2_000)
    assert len(reads) == 2
    assert not list(tmp_path.iterdir())


def _another_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}", "utf-8")


def _another_end(folder: Path) -> None:
    write_json(folder / "generation_config.json", {"eos_token_id": [1, 2]})


def _one_byte(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b'"fuse_unk":true', b'"fuse_unk":null').rstrip())
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize("change", [_another_template, _another_end, _one_byte])
def test_a_changed_file_is_read_again(
    change: Callable[[Path], None], tmp_path: Path, reads: list[Path]
) -> None:
    folder = copy_of(spm_folder())
    _twice(tmp_path, folder)
    change(folder)
    _, changed = _twice(tmp_path, folder)
    assert len(reads) == 2
    assert changed == load(folder, "llama", {}, VOCAB_SIZE)


def test_other_settings_and_other_code_are_read_again(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spm_folder()
    for config, size in (({}, VOCAB_SIZE), ({"eos_token_id": 1}, VOCAB_SIZE), ({}, VOCAB_SIZE + 1)):
        load_kept(tmp_path, folder, "llama", config, size)
    monkeypatch.setattr(kept, "code_digest", lambda: "another")
    load_kept(tmp_path, folder, "llama", {}, VOCAB_SIZE)
    assert len(reads) == 4


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data[:0], bytes.swapcase]
)
def test_a_damaged_note_is_not_used(
    damage: Callable[[bytes], bytes], tmp_path: Path, reads: list[Path]
) -> None:
    first, _ = _twice(tmp_path, spm_folder())
    assert vocabulary_model(first) == "llama"
    for note in (tmp_path / "tokenizers").iterdir():
        note.write_bytes(damage(note.read_bytes()))
    again, _ = _twice(tmp_path, spm_folder())
    assert len(reads) == 2
    assert again == first
    assert vocabulary_model(again) == "llama"


def test_where_nothing_can_be_kept_it_is_read_every_time(tmp_path: Path, reads: list[Path]) -> None:
    (tmp_path / "notes").write_text("a file, where a folder would be")
    first, second = _twice(tmp_path / "notes", spm_folder())
    assert first == second
    assert len(reads) == 2


def test_a_refusal_is_not_kept(tmp_path: Path) -> None:
    folder = copy_of(spm_folder())
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    for _ in range(2):
        with pytest.raises(Failure, match="model is missing"):
            load_kept(tmp_path, folder, "llama", {}, VOCAB_SIZE)


def test_only_the_newest_are_kept(tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_KEPT", 2)
    for size in (30_000, 30_001, 30_000, 30_002, 30_000, 30_001):
        vocabulary_model(load_kept(tmp_path, spm_folder(), "llama", {}, size))
    assert len(reads) == 4  # 30,001 again, since it was the oldest
    assert len(list((tmp_path / "tokenizers").iterdir())) == 4


def test_every_file_that_is_read_is_in_the_key() -> None:
    """A file that is not would be changed without notice."""
    code = "".join(path.read_text("utf-8") for path in (ROOT / "convert" / "tokenizer").glob("*.py"))
    named = set(re.findall(r'folder / "([^"]+)"', code)) | set(re.findall(r'folder\.glob\("([^"]+)"', code))
    assert {"tokenizer.json", "chat_template.jinja", "*.tiktoken"} <= named
    assert named == set(kept.FILES)
