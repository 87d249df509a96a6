"""Shards and their index: they tell the same, or the tensor and the file are named."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convert.checkpoint import open_checkpoint
from convert.errors import Failure
from tests.checkpoint.checkpoint_files import sound

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    save_file({"a": torch.ones(2), "b": torch.ones(3)}, tmp_path / FIRST)
    save_file({"c": torch.ones(4)}, tmp_path / SECOND)
    write_index(tmp_path, {"c": SECOND, "a": FIRST, "b": FIRST})
    return tmp_path


def write_index(folder: Path, weight_map: object) -> None:
    index = {"metadata": {"total_size": 36}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def failure_of(folder: Path) -> Failure:
    with pytest.raises(Failure) as caught:
        open_checkpoint(folder)
    assert caught.value.message.isprintable()
    return caught.value


def test_shards_are_one_checkpoint_in_file_order(sharded: Path) -> None:
    with open_checkpoint(sharded) as checkpoint:
        assert [(info.name, info.file.name) for info in checkpoint.tensors.values()] == [
            ("a", FIRST),
            ("b", FIRST),
            ("c", SECOND),
        ]
        assert checkpoint.read("c").tolist() == [1, 1, 1, 1]


def test_a_shard_may_be_a_link_as_in_the_hub_cache(sharded: Path) -> None:
    blob = sharded / "blobs" / "0123"
    blob.parent.mkdir()
    (sharded / FIRST).rename(blob)
    (sharded / FIRST).symlink_to(blob)
    with open_checkpoint(sharded) as checkpoint:
        assert checkpoint.tensors["a"].file == sharded / FIRST


def test_a_missing_shard_is_named_with_a_tensor_of_it(sharded: Path) -> None:
    (sharded / SECOND).unlink()
    failure = failure_of(sharded)
    assert f"1 of 2 shards are missing: {SECOND} ({SECOND} should hold c)" in failure.message


def test_a_promise_that_no_shard_keeps(sharded: Path) -> None:
    write_index(sharded, {"a": FIRST, "b": FIRST, "c": SECOND, "d": SECOND})
    assert f"d is not in {SECOND}" in failure_of(sharded).message


def test_a_tensor_in_another_shard_than_promised(sharded: Path) -> None:
    write_index(sharded, {"a": FIRST, "b": SECOND, "c": SECOND})
    assert f"b is not in {SECOND} but in {FIRST}" in failure_of(sharded).message


def test_a_tensor_that_the_index_does_not_know(sharded: Path) -> None:
    write_index(sharded, {"a": FIRST, "c": SECOND})
    message = failure_of(sharded).message
    assert message.startswith(str(sharded / FIRST))
    assert "b is not in" in message


def test_a_tensor_in_two_shards(sharded: Path) -> None:
    save_file({"a": torch.ones(2), "c": torch.ones(4)}, sharded / SECOND)
    assert f"a is both in {FIRST} and in {SECOND}" in failure_of(sharded).message


@pytest.mark.parametrize(
    "shard",
    ["../a", "/etc/passwd", "", ".", "..", "x/y", pytest.param("a\0b", id="null byte"), "a\nb", 3, None, []],
)
def test_a_shard_name_that_leaves_the_folder(sharded: Path, shard: object) -> None:
    write_index(sharded, {"a": shard})
    assert "a: " in failure_of(sharded).message


@pytest.mark.parametrize("weight_map", [None, [], {}, "x"])
def test_an_index_without_a_map(sharded: Path, weight_map: object) -> None:
    write_index(sharded, weight_map)
    assert "has no weight_map" in failure_of(sharded).message


@pytest.mark.parametrize("text", ["", "[]", "{", '{"weight_map": {"a": "x", "a": "y"}}'])
def test_an_index_that_is_no_index(sharded: Path, text: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    assert "model.safetensors.index.json" in failure_of(sharded).message


def test_a_single_file_beside_another_models_index(sharded: Path) -> None:
    (sharded / "model.safetensors").write_bytes(sound())
    assert "both model.safetensors and model.safetensors.index.json" in failure_of(sharded).message


def test_an_index_of_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(sound())
    write_index(tmp_path, dict.fromkeys("ab", "model.safetensors"))
    with open_checkpoint(tmp_path) as checkpoint:
        assert list(checkpoint.tensors) == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "found", "hint"),
    [
        ([], "no weights", "save_pretrained"),
        (["tf_model.h5", "flax_model.msgpack"], "flax_model.msgpack, tf_model.h5", "save_pretrained"),
        (["adapter_model.safetensors"], "adapter_model.safetensors", "`adapter:`"),
        (["model-Q4_K_M.gguf"], "model-Q4_K_M.gguf", "cannot be converted"),
        ([FIRST], FIRST, "index"),
    ],
)
def test_a_folder_without_weights_says_what_is_there(
    tmp_path: Path, names: list[str], found: str, hint: str
) -> None:
    for name in [*names, "config.json"]:
        (tmp_path / name).write_bytes(b"x")
    failure = failure_of(tmp_path)
    assert failure.message.endswith(f"found: {found}")
    assert hint in failure.hint


def test_what_is_no_folder_and_what_is_no_file(tmp_path: Path) -> None:
    assert "not a folder" in failure_of(tmp_path / "absent").message
    os.mkfifo(tmp_path / "model.safetensors")
    assert "not a regular file" in failure_of(tmp_path).message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(sound())
    file.chmod(0)
    assert "Permission denied" in failure_of(tmp_path).message
