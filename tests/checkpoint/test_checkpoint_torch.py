"""`pytorch_model.bin`, zip and stream: what torch.save writes is read back without torch."""

import json
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from convert.checkpoint import open_checkpoint
from convert.errors import Failure
from tests.checkpoint.checkpoint_files import TORCH_DTYPES, bits, seeded_tensors

FORMS = {"zip": True, "stream": False}


def save(
    content: object, folder: Path, form: str, name: str = "pytorch_model.bin", protocol: int = 2
) -> Path:
    torch.save(content, folder / name, pickle_protocol=protocol, _use_new_zipfile_serialization=FORMS[form])
    return folder / name


def failure_of(folder: Path) -> Failure:
    with pytest.raises(Failure) as caught:
        open_checkpoint(folder)
    assert caught.value.message.isprintable()
    return caught.value


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_dtype_is_read_as_torch_saved_it(tmp_path: Path, form: str, protocol: int) -> None:
    tensors = seeded_tensors()
    save(tensors, tmp_path, form, protocol=protocol)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.tensors.keys() == tensors.keys()
        for name, tensor in tensors.items():
            info, array = checkpoint.tensors[name], checkpoint.read(name)
            assert TORCH_DTYPES[info.dtype] == tensor.dtype
            assert info.shape == tuple(tensor.shape) == array.shape
            assert info.size_bytes == tensor.nbytes
            assert info.strides_bytes is None
            assert array.tobytes() == bits(tensor)
            assert not array.nbytes or not array.flags.owndata


def test_a_modules_own_state_dict_with_its_metadata(tmp_path: Path, form: str) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    state = module.state_dict()
    assert isinstance(state, OrderedDict)
    assert hasattr(state, "_metadata")
    save(state, tmp_path, form)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.tensors.keys() == state.keys()
        assert checkpoint.read("0.weight").tolist() == state["0.weight"].tolist()


def test_parameters_are_their_tensors(tmp_path: Path, form: str) -> None:
    parameter = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    save({"w": parameter}, tmp_path, form)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.read("w", 1).tolist() == [[3, 4, 5]]


def test_two_names_of_one_tensor_lie_in_one_place(tmp_path: Path, form: str) -> None:
    embedding = torch.arange(6.0).reshape(2, 3)
    save({"embed": embedding, "head": embedding, "last": embedding[1]}, tmp_path, form)
    with open_checkpoint(tmp_path) as checkpoint:
        places = {name: info.offset_bytes for name, info in checkpoint.tensors.items()}
        assert places["embed"] == places["head"] == places["last"] - 12
        assert checkpoint.read("last").tolist() == [3, 4, 5]


def test_transposed_and_sliced_tensors_are_strided_views(tmp_path: Path, form: str) -> None:
    base = torch.arange(60.0).reshape(3, 4, 5)
    tensors = {
        "transposed": base.permute(2, 0, 1),
        "sliced": base[:, 1:3, ::2],
        "one row": base[1:2].transpose(0, 2),
    }
    save(tensors, tmp_path, form)
    with open_checkpoint(tmp_path) as checkpoint:
        for name, tensor in tensors.items():
            assert checkpoint.read(name).tolist() == tensor.tolist()
            assert checkpoint.read(name, 1, 3).tolist() == tensor[1:3].tolist()
            checkpoint.release(name)
            checkpoint.release(name, 1, 2)
            assert checkpoint.tensors[name].size_bytes == tensor.nbytes


def test_an_expanded_tensor_is_refused_before_it_takes_memory(tmp_path: Path, form: str) -> None:
    save({"w": torch.zeros(1).expand(10**6, 10**6)}, tmp_path, form)
    failure = failure_of(tmp_path)
    assert "w: with its strides (0, 0), elements overlap" in failure.message
    assert "contiguous()" in failure.hint


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"state_dict": {"w": torch.zeros(1)}}, "state_dict is of type dict, not a tensor"),
        ({"w": torch.zeros(1), "epoch": 3}, "epoch is of type int, not a tensor"),
        ({"w": None}, "w is nothing, not a tensor"),
        ([torch.zeros(1)], "holds of type list"),
        (torch.zeros(1), "holds a single tensor, not a state dict"),
        ({3: torch.zeros(1)}, "3 is not the name of a tensor"),
        ({"a\nb": torch.zeros(1)}, "is not the name of a tensor"),
        ({"w": torch.zeros(2, dtype=torch.complex64)}, "names torch.ComplexFloatStorage"),
        ({"w": torch.zeros(2, 2).to_sparse()}, "names torch._utils._rebuild_sparse_tensor"),
    ],
    ids=["nested", "number", "nothing", "list", "tensor", "key 3", "line break", "complex", "sparse"],
)
def test_what_is_no_plain_state_dict_is_named(
    tmp_path: Path, form: str, content: object, sentence: str
) -> None:
    save(content, tmp_path, form)
    assert sentence in failure_of(tmp_path).message


def test_a_whole_pickled_module_is_refused(tmp_path: Path, form: str) -> None:
    save(torch.nn.Linear(2, 2), tmp_path, form)
    assert "names torch.nn.modules.linear.Linear" in failure_of(tmp_path).message


def test_shards_and_their_index(tmp_path: Path, form: str) -> None:
    first, second = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
    save({"b": torch.ones(2)}, tmp_path, form, first)
    save({"a": torch.ones(3)}, tmp_path, form, second)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": second, "b": first}}), encoding="utf-8")
    with open_checkpoint(tmp_path) as checkpoint:
        assert list(checkpoint.tensors) == ["b", "a"]
    index.write_text(json.dumps({"weight_map": {"a": second, "b": second}}), encoding="utf-8")
    assert f"b is not in {second}" in failure_of(tmp_path).message


def test_safetensors_come_first(tmp_path: Path, form: str) -> None:
    save({"old": torch.ones(2)}, tmp_path, form)
    save_file({"new": torch.ones(2)}, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        assert list(checkpoint.tensors) == ["new"]


def test_no_cut_passes_unseen(tmp_path: Path, form: str) -> None:
    file = save({"a": torch.arange(40.0), "b": torch.arange(3)}, tmp_path, form)
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        failure_of(tmp_path)
    file.write_bytes(whole)
    open_checkpoint(tmp_path).close()


def rewrite_zip(file: Path, **changes: bytes | None) -> None:
    """Replace entries of a zip by the last part of their names; None leaves one out."""
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            kept = changes.get(name.rpartition("/")[2].replace(".", "_"), content)
            if kept is not None:
                archive.writestr(name, kept)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"byteorder": b"big"}, "not little-endian"),
        ({"data_pkl": None}, "0 entries data.pkl"),
        ({"0": None}, "storage 0 is not in the zip"),
        ({"0": b"\0" * 15}, "storage 0 should take 16 bytes, but takes 15"),
        ({"0": b"\0" * 20}, "storage 0 should take 16 bytes, but takes 20"),
    ],
)
def test_a_zip_that_lacks_what_its_pickle_says(
    tmp_path: Path, changes: dict[str, bytes | None], sentence: str
) -> None:
    rewrite_zip(save({"w": torch.zeros(4)}, tmp_path, "zip"), **changes)
    assert sentence in failure_of(tmp_path).message


def test_a_zip_without_a_byteorder_is_of_an_older_torch(tmp_path: Path) -> None:
    rewrite_zip(save({"w": torch.ones(4)}, tmp_path, "zip"), byteorder=None)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.read("w").tolist() == [1, 1, 1, 1]


def test_zips_that_torch_does_not_write(tmp_path: Path) -> None:
    file = save({"w": torch.zeros(4)}, tmp_path, "zip")
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert "compressed" in failure_of(tmp_path).message
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(name, content)
    assert "is in the zip twice" in failure_of(tmp_path).message
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("model/data.pkl", "model/constants.pkl"):
            archive.writestr(name, b"")
    assert "TorchScript" in failure_of(tmp_path).message


def test_a_stream_whose_storages_are_not_those_of_its_tensors(tmp_path: Path) -> None:
    file = save({"w": torch.zeros(4)}, tmp_path, "stream")
    whole = file.read_bytes()
    file.write_bytes(whole + b"\0")
    assert "1 bytes after the last storage" in failure_of(tmp_path).message
    counted = bytearray(whole)
    counted[-24] = 5
    file.write_bytes(counted)
    assert "should hold 4 items, but holds 5" in failure_of(tmp_path).message


def test_other_files_under_the_name(tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(b"GGUF" + b"\0" * 100)
    assert "neither of the two forms" in failure_of(tmp_path).message
    file.write_bytes(b"\x80\x02K\x01.")
    assert "not one that torch.save wrote" in failure_of(tmp_path).message


def test_released_rows_of_a_bin_come_back(tmp_path: Path, form: str) -> None:
    tensor = torch.randn(3000, 64)
    save({"w": tensor}, tmp_path, form)
    with open_checkpoint(tmp_path) as checkpoint:
        rows = checkpoint.read("w", 10, 2990)
        checkpoint.release("w", 10, 2990)
        assert np.array_equal(rows, tensor[10:2990].numpy())
