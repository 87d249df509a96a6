"""A bare model file: summed up from its header, and never believed where it is damaged."""

import contextlib
import json
import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from hypothesis import given
from hypothesis import strategies as st

from convert.errors import Failure
from convert.store import FileReport, Tally, inspect, inspect_file


def write_gguf(path: Path, vocabulary: int = 8) -> Path:
    """A small file in gguf-py's own hand."""
    writer = GGUFWriter(path, "qwen2")
    writer.add_name("a name")
    writer.add_block_count(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_chat_template("{% for message in messages %}" * 20)
    writer.add_token_list([f"<{number}>" for number in range(vocabulary)])
    writer.add_token_types([1] * vocabulary)
    writer.add_tensor("token_embd.weight", np.zeros((8, 32), np.float32))
    writer.add_tensor("output.weight", np.zeros((8, 34), np.uint8), raw_dtype=GGMLQuantizationType.Q8_0)
    writer.add_tensor("output_norm.weight", np.zeros(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "model.gguf").read_bytes()


def test_a_gguf_file_is_summed_up(tmp_path: Path) -> None:
    report = inspect(write_gguf(tmp_path / "model.gguf"))
    assert isinstance(report, FileReport)
    assert (report.format, report.architecture, report.tensor_count) == ("gguf", "qwen2", 3)
    assert report.parameters == 256 + 256 + 32
    assert report.types == {"F32": Tally(2, 288, 1152), "Q8_0": Tally(1, 256, 272)}
    assert report.metadata["general.name"] == "a name"
    assert report.metadata["qwen2.block_count"] == 2
    assert report.metadata["qwen2.rope.freq_base"] == 10000.0
    assert report.metadata["tokenizer.ggml.tokens"] == "[8 × string]"
    assert str(report.metadata["tokenizer.chat_template"]).endswith("… (580 characters)")
    json.dumps(dict(report.metadata))


def test_a_large_vocabulary_takes_no_seconds(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", vocabulary=150_000)
    start = time.process_time()
    inspect_file(path)
    assert time.process_time() - start < 20


def test_a_safetensors_file_is_summed_up(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(22))
    report = inspect_file(path)
    assert report.types == {"F32": Tally(1, 4, 16), "BF16": Tally(1, 3, 6)}
    assert (report.metadata, report.architecture, report.parameters) == ({"format": "pt"}, None, 7)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Failure, match=r"model\.safetensors"):
        inspect_file(path)


def test_every_cut_of_a_gguf_file_is_a_failure(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "model.gguf"
    # The last tensor may be padded: cut to its end and before.
    for length in [*range(0, 900, 7), len(sound) - 200]:
        path.write_bytes(sound[:length])
        with pytest.raises(Failure) as caught:
            inspect_file(path)
        assert "\n" not in caught.value.message
        assert caught.value.hint


@given(st.data())
def test_a_gguf_file_with_bytes_changed_reads_or_is_a_failure(
    tmp_path_factory: pytest.TempPathFactory, sound: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(sound)
    header_bytes = sound.index(b"output_norm.weight") + 40
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, header_bytes))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(damaged)
    with contextlib.suppress(Failure):
        inspect_file(path)


@pytest.mark.parametrize(
    ("find", "replace", "message"),
    [
        (b"GGUF\x03", b"GGUF\x01", "version 1"),
        (b"GGUF", b"GGML", "not a GGUF file"),
        (b"a name", b"\xff name", "not UTF-8"),
        (b"output.weight\x02", b"output.weight\x09", "9 dimensions"),
        (b"output_norm", b"output_nor\xc3", "UTF-8"),
    ],
    ids=["version", "magic", "value", "dimensions", "name"],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, sound: bytes, find: bytes, replace: bytes, message: str
) -> None:
    path = tmp_path / "model.gguf"
    assert find in sound
    path.write_bytes(sound.replace(find, replace, 1))
    with pytest.raises(Failure, match=message):
        inspect_file(path)


def test_a_tensor_named_twice_or_lying_in_another_is_refused(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(
        sound.replace(b"output.weight", b"output_weight").replace(b"qwen2.block_count", b"qwen2.rope.freq_b")
    )
    inspect_file(path)  # other names do no harm
    at = sound.index(b"output.weight") + len(b"output.weight") + 4 + 16 + 4
    assert int.from_bytes(sound[at : at + 8], "little") == 1024
    path.write_bytes(sound[:at] + (32).to_bytes(8, "little") + sound[at + 8 :])
    with pytest.raises(Failure, match="overlaps"):
        inspect_file(path)


def test_another_kind_of_file_is_refused_with_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(Failure, match="neither") as caught:
        inspect(tmp_path / "notes.txt")
    assert ".gguf" in caught.value.hint
