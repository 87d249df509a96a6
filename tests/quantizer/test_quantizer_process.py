"""The quantizer's process: what it may know and do, and what the user reads when it fails."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pytest

from convert.errors import Failure, UsageFailure
from convert.quantizer import Outcome, quantize
from convert.quantizer.engine import turn_by_layer
from convert.quantizer.tidy import left_out
from tests import tiny
from tests.quantizer import engines
from tests.quantizer.jobs import make_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
WINDOWS = tuple(np.arange(first, first + 20, dtype=np.int32) for first in (5, 9))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "auto_map": {"A": "a.B"}}
    recipe = tiny.Recipe("qwen2", {**changes, "num_attention_heads": 2, "num_key_value_heads": 1})
    return tiny.make(tmp_path_factory.mktemp("source"), recipe)


def run(source: Path, out: Path, engine: str, windows: tuple[NDArray[np.int32], ...] = WINDOWS) -> Outcome:
    job = make_job(source, out, "gptq", windows, group_size=32)
    return quantize(job, engine=f"{engines.__name__}:{engine}")


def test_what_stays_is_weights_and_configuration(source: Path, tmp_path: Path) -> None:
    job = make_job(source, tmp_path / "out", "gptq", WINDOWS, bits=8)
    outcome = quantize(job, engine=f"{engines.__name__}:well")
    names = ["config.json", "model.safetensors", "quantize_config.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert json.loads(outcome.tools["windows"]) == [list(range(5, 25)), list(range(9, 29))]
    assert [each.name for each in outcome.matrices] == [f"model.layers.{n}.mlp.up_proj" for n in (0, 1)]
    config = json.loads((tmp_path / "out/config.json").read_text())
    kept = {"quantizer": ["fake:1"], "damp_percent": 0.05}
    assert config["quantization_config"] == {"bits": 8, "meta": kept, "quant_method": "gptq"}
    assert config["quantization_config"] == json.loads((tmp_path / "out/quantize_config.json").read_text())
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_the_header_is_sorted_and_says_nothing_of_the_machine(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", "well")
    raw = (tmp_path / "out/model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert header.pop("__metadata__") == {"format": "pt"}
    assert list(header) == sorted(header)
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(raw) - 8 - int.from_bytes(
        raw[:8], "little"
    )


def test_no_code_of_the_model_is_named_to_the_child(source: Path, tmp_path: Path) -> None:
    outcome = quantize(
        make_job(source, tmp_path / "out", "gptq", WINDOWS), engine="tests.quantizer.engines:well"
    )
    assert outcome.tools["auto_map"] == "None"
    assert "auto_map" not in json.loads((tmp_path / "out/config.json").read_text())


@pytest.mark.parametrize(
    ("engine", "message", "hint"),
    [
        ("crashes", r"it crashed: a wrong memory access \(SIGSEGV\)", ""),
        ("is_killed", r"killed from outside \(SIGKILL\), as the kernel does when memory runs out", "fewer"),
        ("has_no_memory", "could not get the memory that it asked for", "fewer or shorter calibration"),
        ("has_no_gpu_memory", "RuntimeError: CUDA out of memory", "fewer or shorter calibration"),
        ("runs_out_in_a_thread", "gave up: RuntimeError: DefaultCPUAllocator", "fewer or shorter"),
        ("gives_up", "GPTQModel gave up: RuntimeError: sizes do not fit$", ""),
        ("refuses", "gptq: no GPU here", "take another machine"),
        ("raises", "ValueError: a shape that does not fit", ""),
        ("calls_out", "OSError: this process has no network", ""),
        ("incomplete", "left out 1 of the model's tensors: model.norm.weight", "another format"),
    ],
)
def test_a_failure_says_why_and_leaves_nothing(
    engine: str, message: str, hint: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(Failure, match=message) as raised:
        run(source, tmp_path / "out", engine)
    assert "\n" not in raised.value.message + raised.value.hint
    assert hint in raised.value.hint
    assert not list((tmp_path / "out").iterdir())


def test_a_disk_that_is_full_is_named_where_gptqmodel_says_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(Failure, match=r"^gptq: the disk is full$") as raised:
        run(source, tmp_path / "out", "says_nothing")
    assert "--out" in raised.value.hint


def test_the_child_gets_no_secret_and_a_home_of_its_own(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    monkeypatch.setenv("SOME_SERVICE_KEY", "planted")
    monkeypatch.setenv("PYTHONPATH", "/planted")
    told = run(source, tmp_path / "out", "tells_environment").tools["environment"]
    assert "planted" not in told
    given = json.loads(told)
    assert given["HF_HUB_OFFLINE"] == "1"
    work = Path(given["HOME"]).parent
    assert work.parent == tmp_path / "out"
    assert {given[name] for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "cwd")} == {given["HOME"]}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_child_dies_with_its_parent(how: signal.Signals, source: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from convert.quantizer import quantize\n"
        "from tests.quantizer.jobs import make_job\n"
        "job = make_job(Path(sys.argv[1]), Path(sys.argv[2]), 'gptq', (np.arange(20, dtype=np.int32),))\n"
        "quantize(job, engine='tests.quantizer.engines:hangs')\n"
    )
    command = [sys.executable, "-c", script, str(source), str(tmp_path / "out")]
    parent = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    pids = wait_for(lambda: [int(pid) for pid in read(tmp_path / "out/pids").split()])
    began_s = time.monotonic()
    parent.send_signal(how)
    parent.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in pids))
    wait_for(lambda: [path.name for path in (tmp_path / "out").iterdir()] == ["pids"])
    assert time.monotonic() - began_s < 60


def wait_for(look: Callable[[], T]) -> T:
    deadline_s = time.monotonic() + 30
    while not (found := look()):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return found


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_no_text_and_too_short_windows_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageFailure, match="no calibration text"):
        run(source, tmp_path / "out", "well", ())
    with pytest.raises(Failure, match="a calibration window of 5 tokens"):
        run(source, tmp_path / "out", "well", (np.arange(5, dtype=np.int32),))


@pytest.mark.parametrize(
    ("model_type", "changes", "why"),
    [
        ("gpt2", {}, "awq: transformer.h.0.attn.c_attn is stored transposed"),
        ("phi3", {}, "awq: model.layers.0.self_attn.qkv_proj is several .* fused"),
        ("qwen2", {"hidden_size": 96, "num_attention_heads": 2, "num_key_value_heads": 2}, "has 96 rows"),
    ],
)
def test_what_awq_cannot_do_is_refused_at_once(
    model_type: str, changes: dict[str, int], why: str, tmp_path: Path
) -> None:
    source = tiny.make(tmp_path / "source", tiny.Recipe(model_type, changes))
    with pytest.raises(Failure, match=why):
        quantize(make_job(source, tmp_path / "out", "awq", WINDOWS), engine="tests.quantizer.engines:well")
    assert not (tmp_path / "out").exists()


def test_what_is_quantized_already_is_refused(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "done"
    folder.mkdir()
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {}}))
    (folder / "model.safetensors").symlink_to(source / "model.safetensors")
    with pytest.raises(Failure, match="quantized already"):
        run(folder, tmp_path / "out", "well")


def test_what_stays_plain_is_named_to_the_runtimes(source: Path, tmp_path: Path) -> None:
    left = ("model.layers.0.mlp.shared_expert_gate",)
    job = make_job(source, tmp_path / "out", "gptq", WINDOWS, left=left)
    quantize(job, engine=f"{engines.__name__}:well")
    said = json.loads((tmp_path / "out/config.json").read_text())["quantization_config"]
    (names,) = said["modules_in_block_to_quantize"]
    assert {"self_attn.q_proj", "mlp.down_proj"} < set(names)
    assert len(names) == 7
    assert left_out(replace(job, method="awq")) == {"modules_to_not_convert": list(left)}


class Rotary:
    """Positions that turn by the kind of layer."""

    layer_types = ("sliding", "full")

    def forward(self, _x: object, position_ids: object, layer_type: str) -> tuple[Turned, ...]:
        return (Turned(layer_type, position_ids),)

    __call__ = forward


@dataclass
class Turned:
    """What a layer is called with."""

    kind: str
    places: object

    def to(self, _device: str) -> Turned:
        return self


def test_each_layer_is_replayed_with_its_own_positions() -> None:
    rotary = Rotary()
    model = SimpleNamespace(
        named_modules=lambda: [("model", SimpleNamespace(forward=len)), ("rotary", rotary)],
        config=SimpleNamespace(get_text_config=lambda: SimpleNamespace(layer_types=["sliding", "full"])),
    )
    first = {"position_ids": np.arange(4), "position_embeddings": "of the first layer"}
    quantizing = SimpleNamespace(
        model=model, prepare_layer_replay_kwargs=lambda _layer, _states, inputs, _device: inputs
    )
    turn_by_layer(quantizing)
    for number, kind in enumerate(["sliding", "full"]):
        layer = SimpleNamespace(self_attn=SimpleNamespace(layer_idx=number))
        inputs = quantizing.prepare_layer_replay_kwargs(layer, [None], first, "cpu")
        (turned,) = inputs["position_embeddings"]
        assert turned.kind == kind
        assert turned.places is first["position_ids"]
