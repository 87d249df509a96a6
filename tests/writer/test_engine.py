"""The pass itself: damage is named, nothing waits for ever, and memory does not follow the model."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from convert.checkpoint import open_checkpoint
from convert.errors import Failure
from convert.model.binding import bind
from convert.model.config import read_config
from convert.model.families import describe
from convert.writer import engine
from convert.writer.codecs.compensated import Compensated
from convert.writer.codecs.ggml import Ggml
from convert.writer.codecs.gptq_words import GptqWords
from tests import tiny
from tests.gguf import oracle


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_named(value: float, tmp_path: Path) -> None:
    made = tiny.tensors(tiny.Recipe("llama"))
    made["model.layers.2.mlp.up_proj.weight"][300, 7] = value
    folder = tiny.make(tmp_path / "model", tiny.Recipe("llama"))
    tiny.write_safetensors(folder / "model.safetensors", made, "F32")
    with pytest.raises(Failure, match=r"model\.layers\.2\.mlp\.up_proj\.weight holds a value"):
        oracle.convert_folder(folder, tmp_path / "out", ["Q4_K_M", "F16"])


def test_a_weight_too_large_for_f16_is_named(tmp_path: Path) -> None:
    made = tiny.tensors(tiny.Recipe("llama"))
    made["lm_head.weight"][3, 3] = 1e6
    folder = tiny.make(tmp_path / "model", tiny.Recipe("llama"))
    tiny.write_safetensors(folder / "model.safetensors", made, "BF16")
    with pytest.raises(Failure, match=r"lm_head\.weight: a weight is larger than F16 can hold"):
        oracle.convert_folder(folder, tmp_path / "out", ["F16"])


INTERRUPTED = """
import sys
from pathlib import Path
from tests.gguf import oracle
print("begun", flush=True)
try:
    oracle.convert_folder(Path(sys.argv[1]), Path(sys.argv[2]), ["Q2_K", "IQ4_XS", "Q4_K_M"])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow
def test_an_interrupt_ends_the_pass_at_once(tmp_path: Path) -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8}
    folder = tiny.make(tmp_path / "model", tiny.Recipe("mistral", sizes))
    command = [sys.executable, "-c", INTERRUPTED, str(folder), str(tmp_path / "out")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted\n"
        assert process.wait(20) == 0


def test_what_is_heard_of_a_file_is_its_start_as_it_is_in_the_end(tmp_path: Path) -> None:
    """Two orders of tensors, and experts, on several threads; small files are heard whole."""
    folder = tiny.make(tmp_path / "model", tiny.Recipe("qwen3_moe"))
    layouts = [layout for each in oracle.planned(folder, ["Q4_K_M", "F16"]) for layout in each.layouts]
    family, decoder = describe(read_config(folder))
    heard = {tmp_path / layout.path: bytearray() for layout in layouts}
    with open_checkpoint(folder) as checkpoint:
        origins = bind(decoder, family.naming, checkpoint.tensors).origins
        outputs = [
            engine.Output(layout, path, hears=heard[path].extend)
            for layout, path in zip(layouts, heard, strict=True)
        ]
        engine.run(checkpoint, origins, outputs, threads=4)
    for path, start in heard.items():
        assert path.read_bytes() == start


@pytest.mark.parametrize(("columns", "group", "rows"), [(4864, 1, 384), (896, 1, 2304), (896, 3, 2304)])
def test_a_slice_has_all_rows_that_are_rounded_together(columns: int, group: int, rows: int) -> None:
    rounded = Compensated(GptqWords(4, 64))
    assert engine.slice_rows([rounded, Ggml("Q8_0")], columns, group) == rows
    assert engine.slice_rows([Ggml("Q8_0")], columns, group) == (1 << 19) // columns // group * group
