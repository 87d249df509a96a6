"""manifest.json: the same bytes for the same content, and nothing believed that is not exactly right."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from convert.deviation import Deviation
from convert.store import (
    MANIFEST_NAME,
    DamagedManifest,
    FileEntry,
    Manifest,
    MissingManifest,
    ModelRecord,
    NewerManifest,
    SourceRecord,
    TokenRecord,
    artifact_key,
    read_manifest,
)
from tests.store.building import key_of, manifest_of

DIGEST = "0" * 64
FILES = (
    FileEntry(path="model.gguf", size_bytes=3, sha256=DIGEST),
    FileEntry(path="notes/card.md", size_bytes=0, sha256=DIGEST),
)


def full() -> Manifest:
    """A manifest with something in every field."""
    return Manifest(
        key=DIGEST,
        recipe="model: Qwen/Qwen-7B-Chat  # 通义千问\n",
        source=SourceRecord(repo="Qwen/Qwen-7B-Chat", commit="0" * 40, files=FILES),
        target="gguf-Q4_K_M",
        format="gguf",
        model=ModelRecord(
            family="qwen2",
            parameter_count=7_721_324_544,
            context_length=8192,
            vocab_size=151_936,
            bos=None,
            adds_bos=False,
            ends=(TokenRecord(id=151_645, text="<|im_end|>"),),
            chat_template_sha256=DIGEST,
            sampling={"temperature": 0.7, "top_k": 20},
        ),
        options={"quant": "Q4_K_M", "imatrix": None, "nested": {"b": [1, 2.5], "a": True}},
        tools={"modelwright": "0.1.0", "gguf": "0.19.0"},
        files=tuple(reversed(FILES)),
        tensors={"output.weight": "Q6_K", "blk.0.ffn_down.weight": "Q5_0"},
        deviations=(Deviation(subject="blk.0.ffn_down.weight", wanted="Q4_K", got="Q5_0", why="5504 % 256"),),
        license="other",
        chat_template_sha256=DIGEST,
    )


def written(folder: Path, content: dict[str, Any] | bytes) -> Path:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / MANIFEST_NAME).write_bytes(data)
    return folder


def test_what_was_written_is_read_back_and_written_alike(tmp_path: Path) -> None:
    manifest = full()
    written(tmp_path, manifest.to_bytes())
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path).to_bytes() == manifest.to_bytes()


def test_the_bytes_are_sorted_indented_and_readable() -> None:
    text = full().to_bytes().decode()
    content = json.loads(text)
    assert list(content) == sorted(content)
    assert [entry["path"] for entry in content["files"]] == ["model.gguf", "notes/card.md"]
    assert text.endswith("\n}\n")
    assert "通义千问" in text
    assert '\n  "schema": 2,\n' in text


def test_the_contract_s_fields_are_all_there() -> None:
    assert set(json.loads(full().to_bytes())) == {
        "chat_template_sha256", "deviations", "files", "format", "format_revision", "key", "license", "model",
        "options", "recipe", "schema", "source", "target", "tensors", "tools",
    }  # fmt: skip


def test_the_order_in_which_things_were_found_does_not_reach_the_bytes() -> None:
    one = full()
    other = one.model_copy(update={"tensors": dict(reversed(one.tensors.items()))}).with_files(FILES)
    assert one.to_bytes() == other.to_bytes()


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../up", "a/../b", "a//b", "", ".", "a\\b", pytest.param("a\0b", id="null byte")]
)
def test_a_path_that_could_leave_the_folder_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        FileEntry(path=path, size_bytes=1, sha256=DIGEST)


def test_a_file_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        full().with_files((FILES[0], FILES[0]))


@pytest.mark.parametrize(
    "change",
    [
        {"key": "abc"},
        {"files": []},
        {"files": [{"path": "../x", "size_bytes": 1, "sha256": DIGEST}]},
        {"files": [{"path": "x", "size_bytes": -1, "sha256": DIGEST}]},
        {"files": [{"path": "x", "size_bytes": "1", "sha256": DIGEST}]},
        {"files": [{"path": "x", "size_bytes": 1, "sha256": DIGEST}] * 2},
        {"surprise": 1},
        {"tools": None},
        {"schema": 0},
        {"schema": True},
        {"schema": "1"},
        {"recipe": 7},
    ],
)
def test_a_manifest_that_is_not_exactly_right_is_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(DamagedManifest, match=MANIFEST_NAME) as caught:
        read_manifest(written(tmp_path, json.loads(full().to_bytes()) | change))
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        b"[" * 100_000,
        b'{"schema": NaN}',
    ],
)
def test_what_is_no_manifest_at_all_is_damaged(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DamagedManifest):
        read_manifest(written(tmp_path, data))


def test_a_link_or_a_folder_by_that_name_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_bytes(full().to_bytes())
    for name in ("link", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "link" / MANIFEST_NAME).symlink_to(tmp_path / "elsewhere.json")
    (tmp_path / "folder" / MANIFEST_NAME).mkdir()
    for name in ("link", "folder"):
        with pytest.raises(DamagedManifest):
            read_manifest(tmp_path / name)


def test_a_newer_schema_is_told_apart_from_damage(tmp_path: Path) -> None:
    with pytest.raises(NewerManifest, match="schema 3 is newer") as caught:
        read_manifest(written(tmp_path, {"schema": 3, "whatever": []}))
    assert caught.value.hint == "upgrade modelwright"


def test_a_manifest_of_the_first_schema_is_still_read(tmp_path: Path) -> None:
    old = json.loads(full().to_bytes()) | {"schema": 1, "licence": "tongyi-qianwen"}
    del old["license"], old["model"]
    manifest = read_manifest(written(tmp_path, old))
    assert (manifest.license, manifest.model) == ("tongyi-qianwen", None)


def test_no_manifest_is_told_apart_from_damage(tmp_path: Path) -> None:
    with pytest.raises(MissingManifest, match="no artifact"):
        read_manifest(tmp_path / "nothing")


WHOLE = full().to_bytes()


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_one_changed_byte_reads_back_or_is_damaged(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int
) -> None:
    data = bytearray(WHOLE)
    data[at] = byte
    folder = written(tmp_path_factory.getbasetemp(), bytes(data))
    with contextlib.suppress(DamagedManifest, NewerManifest):
        assert isinstance(read_manifest(folder), Manifest)


def test_the_key_tells_apart_whatever_reaches_the_bytes() -> None:
    def key(**change: Any) -> str:
        whole: dict[str, Any] = {
            "source_digests": {"a": "1", "b": "2"},
            "target": "gguf-Q8_0",
            "options": {"x": 1, "y": [2]},
            "format_revision": 1,
            "tools": {"gguf": "0.19"},
            "also": {"repo": "a/b"},
        }
        return artifact_key(**(whole | change))

    keys = [
        key(),
        key(source_digests={"a": "1", "b": "3"}),
        key(target="gguf-Q4_0"),
        key(options={"x": 1, "y": [3]}),
        key(format_revision=2),
        key(tools={"gguf": "0.20"}),
        key(also=None),
    ]
    assert len(set(keys)) == len(keys)
    assert key(source_digests={"b": "2", "a": "1"}) == key()
    assert len(key_of("x")) == 64
    assert manifest_of("x").key == key_of("x")
