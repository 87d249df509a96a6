"""ONNX in its own runtime: what onnxruntime-genai says of a model agrees with the model's source."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert import convert_recipe, recipe
from convert.child import ChildFailure, FaultKind
from convert.errors import Failure
from convert.formats import option_models
from tests import tiny
from tests.verify.opening import CHAT, LAID_OUT, TEXT, logits, opened
from verify.runtimes import Request, runtimes_for
from verify.runtimes._genai import read_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.verify.conftest import Made
    from verify.worker import Worker

MODELS = Path(__file__).parents[2] / "recipes" / "models"


def copied(folder: Path, to: Path) -> Path:
    """The same artifact in a folder of its own, to be changed."""
    return shutil.copytree(folder, to)


def changed(folder: Path, to: Path, **model: Any) -> Path:
    """The artifact with other words in its genai_config.json."""
    copied(folder, to)
    config = json.loads((to / "genai_config.json").read_text("utf-8"))
    config["model"] |= model
    (to / "genai_config.json").write_text(json.dumps(config), "utf-8")
    return to


@pytest.fixture(scope="module")
def artifact(chat: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny chat model in float32."""
    home = tmp_path_factory.mktemp("onnx")
    (home / "tiny.yaml").write_text(
        f"model: {chat.source}\ntargets: {{onnx: {{precision: fp32}}}}\n", "utf-8"
    )
    asked = recipe.load(home / "tiny.yaml", option_models())
    convert_recipe(asked, out=home / "out", threads=1, offline=True)
    return home / "out" / "tiny" / "onnx-fp32-cpu"


@pytest.fixture(scope="module")
def onnx(artifact: Path) -> Iterator[Worker]:
    with opened("onnxruntime_genai", artifact) as worker:
        yield worker


@pytest.fixture(scope="module")
def source(chat: Made) -> Iterator[Worker]:
    with opened("transformers", chat.source) as worker:
        yield worker


def test_a_folder_finds_its_runtime(artifact: Path, chat: Made) -> None:
    assert runtimes_for(artifact) == ("onnxruntime_genai", "onnxruntime")
    assert runtimes_for(chat.source) == ("transformers",)


def test_the_runtime_says_what_it_has_opened(onnx: Worker, source: Worker) -> None:
    info = onnx.info
    assert (info.context, info.context_length, info.vocab_size) == (256, 256, tiny.VOCAB_SIZE)
    assert (info.eos_id, info.eog_ids, info.adds_bos) == (511, (511,), False)
    assert set(info.can) == {*source.info.can, "together"}
    assert info.chat_template == source.info.chat_template
    # 4 layers x keys and values x 2 heads x 32 values of 4 bytes
    assert info.kv_bytes_per_token == source.info.kv_bytes_per_token == 2048
    assert dict(info.notes) | {"provider": "cpu", "kv_cache": "float32", "threads": "1"} == info.notes
    assert onnx.versions.keys() == {"onnxruntime", "onnxruntime-genai"}


def test_its_tokenizer_reads_as_the_source_s(onnx: Worker, source: Worker) -> None:
    for text in (TEXT, LAID_OUT, "", " a  b\n\n1234 it's", "café 🪐"):
        ids = onnx.tokenize(text, special=True)
        assert ids == source.tokenize(text, special=True)
        assert onnx.detokenize(ids) == text
    plain = onnx.tokenize(LAID_OUT, special=False)
    assert {509, 510, 511}.isdisjoint(plain)
    assert onnx.detokenize(plain) == LAID_OUT


def test_its_own_template_engine_lays_out_as_the_source_s(onnx: Worker, source: Worker) -> None:
    assert onnx.apply_template(CHAT) == source.apply_template(CHAT) == LAID_OUT
    assert not onnx.apply_template(CHAT, add_generation_prompt=False).endswith("assistant\n")


def test_logits_agree_at_every_position(onnx: Worker, source: Worker) -> None:
    ids = list(range(3, 253))
    ours = logits(onnx, ids)
    assert ours.shape == (len(ids), tiny.VOCAB_SIZE)
    assert np.abs(ours - logits(source, ids)).max() < 1e-4
    assert np.array_equal(ours, logits(onnx, ids))


def test_answers_agree(onnx: Worker, source: Worker) -> None:
    for request in (
        Request(text=TEXT, max_tokens=12),
        Request(messages=CHAT, max_tokens=12),
        Request(messages=CHAT, max_tokens=12, temperature=0.8, seed=7),
    ):
        ours, theirs = list(onnx.generate(request)), list(source.generate(request))
        assert [piece.token for piece in ours] == [piece.token for piece in theirs]
        assert [piece.t_s for piece in ours] == sorted(piece.t_s for piece in ours)
        assert ours[-1].end == "length"
        assert all(piece.end is None for piece in ours[:-1])
    assert onnx.answer(Request(text=TEXT, max_tokens=12)) == source.answer(Request(text=TEXT, max_tokens=12))


def test_an_answer_ends_at_a_stop(onnx: Worker) -> None:
    free = list(onnx.generate(Request(text=TEXT, max_tokens=6, ignores_end=True)))
    ids = [piece.token for piece in free]
    ended = list(onnx.generate(Request(text=TEXT, max_tokens=6, stop_ids=(ids[2] or 0,))))
    assert (len(ended), ended[-1].end) == (ids.index(ids[2]) + 1, "end")
    stop = "".join(piece.text for piece in free)[2:4]
    stopped = list(onnx.generate(Request(text=TEXT, max_tokens=6, stop=(stop,))))
    assert stopped[-1].end == "stop"
    assert stop not in "".join(piece.text for piece in stopped)


def test_an_answer_is_cancelled_and_the_next_one_is_made(onnx: Worker) -> None:
    stream = onnx.generate(Request(text=TEXT, max_tokens=200, ignores_end=True))
    next(stream)
    stream.close()
    assert len(list(onnx.generate(Request(text=TEXT, max_tokens=5, ignores_end=True)))) == 5


def test_an_answer_goes_no_further_than_the_context(onnx: Worker) -> None:
    ids = tuple(range(200)) + tuple(range(50))
    assert len(list(onnx.generate(Request(ids=ids, max_tokens=100, ignores_end=True)))) == 6
    for refused in (Request(ids=ids + ids), Request(ids=()), Request(ids=(512,)), Request(ids=(-1,))):
        with pytest.raises(ChildFailure) as caught:
            list(onnx.generate(refused))
        assert caught.value.fault.kind is FaultKind.REFUSED
    with pytest.raises(ChildFailure, match="do not fit the context of 256"):
        list(onnx.logits([1] * 257))


def test_answers_made_together_are_as_long_as_alone(onnx: Worker) -> None:
    requests = [Request(ids=tuple(range(5 + 3 * n)), max_tokens=7 + n, ignores_end=True) for n in range(6)]
    ticks = list(onnx.together(requests))
    assert [sum(tick.index == n for tick in ticks) for n in range(6)] == [7, 8, 9, 10, 11, 12]
    assert [tick.t_s for tick in ticks] == sorted(tick.t_s for tick in ticks)
    for refused in (Request(ids=(1,), stop=("x",)), Request(ids=(1,), temperature=1.0), Request(ids=(999,))):
        with pytest.raises(ChildFailure) as caught:
            list(onnx.together([refused]))
        assert caught.value.fault.kind is FaultKind.REFUSED


def test_the_cache_is_as_long_as_the_request_and_no_longer(onnx: Worker) -> None:
    for count in (20, 60):
        list(onnx.logits(list(range(count))))
        assert onnx.cache_bytes() == count * (onnx.info.kv_bytes_per_token or 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"speed": "high"}, "no such option: speed"),
        ({"provider": "tpu"}, "is none of cpu, cuda, dml, openvino"),
        ({"provider_options": {"device_type": "NPU"}}, "are a provider's"),
        ({"provider": "openvino", "provider_options": "NPU"}, "is not an object"),
        ({"provider": "openvino", "provider_options": {"device_type": "NPU"}}, "OpenVINO"),
        ({"provider": "dml"}, "DML"),
    ],
)
def test_what_is_not_there_is_refused_in_words(options: dict[str, Any], said: str, artifact: Path) -> None:
    with pytest.raises(ChildFailure, match=said) as caught:
        opened("onnxruntime_genai", artifact, **options)
    assert caught.value.fault.kind is FaultKind.REFUSED


def test_the_cpu_opens_what_was_made_for_another_provider(artifact: Path, tmp_path: Path) -> None:
    config = json.loads((artifact / "genai_config.json").read_text("utf-8"))
    decoder = config["model"]["decoder"]
    decoder["session_options"]["provider_options"] = [{"OpenVINO": {"device_type": "NPU"}}]
    folder = changed(artifact, tmp_path / "npu", decoder=decoder)
    with pytest.raises(ChildFailure, match=r"OpenVINO.*; --option provider=cpu opens it"):
        opened("onnxruntime_genai", folder)
    with opened("onnxruntime_genai", folder, provider="cpu") as worker:
        assert worker.info.notes["provider"] == "cpu"
        assert len(logits(worker, [3, 4, 5])) == 3


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json", "genai_config.json"])
def test_a_damaged_artifact_is_refused_or_crashes_alone(name: str, artifact: Path, tmp_path: Path) -> None:
    folder = copied(artifact, tmp_path / "cut")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ChildFailure) as caught:
        opened("onnxruntime_genai", folder)
    assert caught.value.fault.kind in (FaultKind.REFUSED, FaultKind.CRASHED)
    assert caught.value.fault.reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"model": {"decoder": {"session_options": {"custom_ops_library": "ops"}}}}', "load a library"),
        ('{"model": {"provider_options": [{"qnn": {"backend_path": "x"}}]}}', "load a library"),
        ('{"model": {"session_options": {"ep": ["libx.so.1"]}}}', "load a library"),
        ('{"model": {"decoder": {"filename": "../model.onnx"}}}', "outside the folder"),
        ('{"model": {"decoder": {"filename": ["a"]}}}', "has to be a name"),
        ('{"model": {"tokenizer_dir": ".."}}', "outside the folder"),
        ('{"model": {"decoder": {"session_options": {"enable_profiling": "/tmp/a"}}}}', "outside the folder"),
        ('{"model": {"decoder": {"session_options": {"session.x": "../a"}}}}', "outside the folder"),
        ('{"model": {"decoder": {"session_options": {"ep.context_file_path": "a"}}}}', "read or write"),
        ('{"model": {"provider_options": [{"OpenVINO": {"cache_dir": "a"}}]}}', "read or write"),
        ('{"model": {"encoder": {"run_options": {"a": ["b", {"c": "d\\\\e"}]}}}}', "outside the folder"),
        ('{"model": {}}', "describes no decoder"),
        ('{"model": {"decoder": "x"}}', "describes no decoder"),
        ('{"model": {"decoder": {"session_options": []}}}', "session_options is not as"),
        (
            '{"model": {"decoder": {"session_options": {"provider_options": "a"}}}}',
            "session_options is not as",
        ),
        ('{"model": {"type": "a"}, "model": {"type": "b"}}', "is given twice"),
        ('{"model": ', "Expecting value"),
        ("[]", "is not a JSON object"),
    ],
)
def test_a_config_that_could_do_harm_is_not_opened(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "genai_config.json").write_text(text, "utf-8")
    with pytest.raises(Failure, match=said):
        read_config(tmp_path)


def test_words_with_a_stroke_are_no_places(tmp_path: Path) -> None:
    text = (
        '{"model": {"end": "</s>", "decoder": {"inputs": {"a": "/b/c"}, "session_options": {"log_id": "d"}}}}'
    )
    (tmp_path / "genai_config.json").write_text(text, "utf-8")
    assert read_config(tmp_path)["model"]["end"] == "</s>"


FILE_SETTINGS = ("session.optimized_model_filepath", "session.collect_node_memory_stats_to_file")


@pytest.mark.parametrize("key", FILE_SETTINGS)
def test_no_setting_has_a_file_written(key: str, artifact: Path, tmp_path: Path) -> None:
    decoder = json.loads((artifact / "genai_config.json").read_text("utf-8"))["model"]["decoder"]
    # The statistics would be written into the folder itself, over whatever is there.
    for number, name in enumerate((str(tmp_path / "elsewhere"), "tokenizer.json")):
        decoder["session_options"] = {key: name}
        folder = changed(artifact, tmp_path / str(number), decoder=decoder)
        with pytest.raises(ChildFailure, match="read or write"):
            opened("onnxruntime_genai", folder)
        assert (folder / "tokenizer.json").read_bytes() == (artifact / "tokenizer.json").read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"0", "1"}


def test_a_config_without_its_sizes_is_refused(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ChildFailure, match=r"model\.vocab_size is 'many'"):
        opened("onnxruntime_genai", changed(artifact, tmp_path / "many", vocab_size="many"))


@pytest.mark.parametrize("size", ["num_hidden_layers", "num_key_value_heads", "head_size"])
def test_sizes_that_are_not_the_graph_s_are_refused(size: str, artifact: Path, tmp_path: Path) -> None:
    decoder = json.loads((artifact / "genai_config.json").read_text("utf-8"))["model"]["decoder"]
    for value in (decoder[size] // 2, decoder[size] + 1):
        folder = changed(artifact, tmp_path / str(value), decoder={**decoder, size: value})
        with pytest.raises(ChildFailure, match="the graph's cache is another") as caught:
            opened("onnxruntime_genai", folder)
        assert caught.value.fault.kind is FaultKind.REFUSED


def test_a_vocabulary_of_another_size_is_no_crash(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ChildFailure, match="must be in range") as caught:
        opened("onnxruntime_genai", changed(artifact, tmp_path / "less", vocab_size=100))
    assert caught.value.fault.kind is FaultKind.REFUSED
    with (
        opened("onnxruntime_genai", changed(artifact, tmp_path / "more", vocab_size=600)) as worker,
        pytest.raises(ChildFailure, match="invalid dimensions for output: logits"),
    ):
        list(worker.logits([3, 4]))


def test_a_template_is_held_by_the_sandbox_first(artifact: Path, tmp_path: Path) -> None:
    folder = copied(artifact, tmp_path / "evil")
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    template = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}), "utf-8")
    with opened("onnxruntime_genai", folder) as worker, pytest.raises(ChildFailure, match="CPU time"):
        worker.apply_template(CHAT)


@pytest.mark.slow
def test_the_embedded_model_passes_every_check(tmp_path: Path) -> None:
    program = str(Path(sys.executable).parent / "modelwright")
    (tmp_path / "tiny.yaml").write_text(
        f"model: {MODELS / 'tiny-qwen'}\ntargets: {{onnx: {{precision: [fp32, int8]}}}}\n"
        f"verify: {{scenarios: ['{MODELS / 'tiny-searchqa-zh.yaml'}']}}\n",
        "utf-8",
    )
    place = ["tiny.yaml", "--out", "out"]
    subprocess.run([program, "--quiet", "convert", *place], cwd=tmp_path, check=True)
    done = subprocess.run(
        [program, "verify", "--json", *place], cwd=tmp_path, check=True, capture_output=True
    )
    exact, rounded = json.loads(done.stdout)["artifacts"]
    for found in (exact, rounded):
        checks = {check["name"]: check["passed"] for check in found["checks"]}
        assert all(checks.values())
        assert checks.keys() >= {"digests", "opens", "answers", "context_length", "vocabulary"}
        assert checks.keys() >= {"tokenizer", "markup", "chat_template", "chat_tokens", "end_of_turn"}
        assert found["speed"]["throughput_tok_s"].keys() == {"1", "4", "10"}
        assert found["memory"]["kv_bytes_per_token"] == found["memory"]["kv_bytes_per_token_computed"]
    assert exact["quality"]["kl_mean"] < 1e-6
    assert exact["quality"]["top1"] == 1
    assert 1e-6 < rounded["quality"]["kl_mean"] < 0.05
