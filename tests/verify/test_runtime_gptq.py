"""GPTQ and AWQ in their own runtime: the same weights give what exact arithmetic on them gives."""

from __future__ import annotations

import json
import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from convert import convert_recipe, recipe
from convert.child import ChildFailure, FaultKind, Limits
from convert.errors import Failure
from convert.formats import option_models
from tests import tiny
from tests.gptq.packed import widened
from tests.verify import opening
from tests.verify.opening import TEXT, logits
from verify.runtimes import Request, RuntimeSettings, gptqmodel, runtimes_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.verify.conftest import Made
    from verify.worker import Worker

opened = partial(opening.opened, limits=Limits(open_s=300, request_s=120))
GROUP, BITS = 64, 4
CHAT = ({"role": "user", "content": "太阳系有几颗行星？"},)
WORDS = "The solar system has eight planets. 太阳系有八颗行星。最大的是木星，最小的是水星。\n" * 60
# Of logits up to 2: the kernels of a CPU round to 16 bits on the way.
KERNEL_NOISE = 0.05


def packed(matrix: NDArray[np.float32]) -> dict[str, torch.Tensor]:
    """Round (out, in) to the nearest of 16 levels and pack it as GPTQ's first format does."""
    rows, columns = matrix.shape
    grouped = matrix.reshape(rows, -1, GROUP)
    steps = (np.abs(grouped).max(axis=2) / 7).astype(np.float16)
    levels = np.round(grouped / steps.astype(np.float32)[:, :, None]).clip(-8, 7).reshape(rows, columns) + 8
    words = levels.T.astype(np.uint32).reshape(columns // 8, 8, rows)
    shifts = np.arange(0, 32, BITS, dtype=np.uint32)
    joined = np.ascontiguousarray(np.bitwise_or.reduce(words << shifts[None, :, None], axis=1))
    return {
        "qweight": torch.from_numpy(joined.view(np.int32)),
        "qzeros": torch.full((columns // GROUP, rows // 8), 0x77777777, dtype=torch.int32),
        "scales": torch.from_numpy(steps.T.copy()),
        "g_idx": torch.arange(columns, dtype=torch.int32) // GROUP,
    }


def quantize(source: Path, to: Path) -> Path:
    """The source's linear layers packed, and the rest as it is."""
    to.mkdir()
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            layer = name.removesuffix("weight")
            stored |= {layer + part: value for part, value in packed(tensor.float().numpy()).items()}
        else:
            stored[name] = tensor.half()
    save_file(stored, to / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text("utf-8"))
    config |= {"dtype": "float16", "quantization_config": QUANTISATION}
    (to / "config.json").write_text(json.dumps(config), "utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, to / name)
    return to


QUANTISATION = {
    "quant_method": "gptq",
    "checkpoint_format": "gptq",
    "bits": BITS,
    "group_size": GROUP,
    "desc_act": False,
    "sym": True,
    "lm_head": False,
    "pack_dtype": "int32",
}


def halved(source: Path, to: Path) -> Path:
    """The source in 16 bits, as models are published."""
    shutil.copytree(source, to)
    stored = {name: tensor.bfloat16() for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(stored, to / "model.safetensors", metadata={"format": "pt"})
    return to


def changed(folder: Path, to: Path, **config: Any) -> Path:
    """The artifact with other words in its config."""
    shutil.copytree(folder, to)
    found = json.loads((to / "config.json").read_text("utf-8"))
    (to / "config.json").write_text(json.dumps(found | config), "utf-8")
    return to


@pytest.fixture(scope="module")
def artifact(chat: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny chat model, its weights rounded and packed without any help."""
    return quantize(chat.source, tmp_path_factory.mktemp("gptq") / "artifact")


@pytest.fixture(scope="module")
def exact(artifact: Path, chat: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """The same weights as plain numbers, run by Transformers in float32."""
    folder = tmp_path_factory.mktemp("exact")
    shutil.copytree(chat.source, folder, dirs_exist_ok=True)
    save_file(widened(artifact), folder / "model.safetensors", metadata={"format": "pt"})
    with opened("transformers", folder) as worker:
        yield worker


@pytest.fixture(scope="module")
def gptq(artifact: Path) -> Iterator[Worker]:
    with opened("gptqmodel", artifact) as worker:
        yield worker


def test_quantized_folders_are_distinguished_from_sources(artifact: Path, chat: Made, tmp_path: Path) -> None:
    assert runtimes_for(artifact) == ("gptqmodel",)
    assert runtimes_for(chat.source) == ("transformers",)
    awq = changed(artifact, tmp_path / "awq", quantization_config={"quant_method": "awq"})
    assert runtimes_for(awq) == ("gptqmodel",)
    other = changed(artifact, tmp_path / "fp8", quantization_config={"quant_method": "fp8"})
    with pytest.raises(Failure, match="quantized by fp8: no runtime here opens it"):
        runtimes_for(other)


@pytest.mark.slow
def test_the_runtime_says_what_it_has_opened(gptq: Worker, exact: Worker) -> None:
    info = gptq.info
    assert (info.context, info.context_length, info.vocab_size) == (256, 256, tiny.VOCAB_SIZE)
    assert (info.eos_id, info.eog_ids, info.can) == (511, (511,), exact.info.can)
    assert info.chat_template == exact.info.chat_template
    assert (
        dict(info.notes) | {"method": "gptq", "bits": "4", "group_size": "64", "device": "cpu"} == info.notes
    )
    assert info.notes["kernels"].startswith("Torch")
    assert gptq.versions.keys() == {"gptqmodel", "torch", "transformers"}


@pytest.mark.slow
def test_logits_are_those_of_the_packed_weights(gptq: Worker, exact: Worker, chat: Made) -> None:
    ids = list(range(3, 203))
    ours, theirs = logits(gptq, ids), logits(exact, ids)
    assert ours.shape == (len(ids), tiny.VOCAB_SIZE)
    noise = np.abs(ours - theirs).max()
    assert noise < KERNEL_NOISE
    with opened("transformers", chat.source) as source:
        assert np.abs(theirs - logits(source, ids)).max() > 5 * noise  # what the rounding itself has done


@pytest.mark.slow
def test_answers_stop_at_a_stop_token(gptq: Worker) -> None:
    assert gptq.apply_template(CHAT).startswith("<|im_start|>user\n")
    free = [piece.token for piece in gptq.generate(Request(text=TEXT, max_tokens=6, ignores_end=True))]
    assert len(free) == 6
    again = list(gptq.generate(Request(text=TEXT, max_tokens=6, stop_ids=(free[2] or 0,))))
    assert (len(again), again[-1].end) == (free.index(free[2]) + 1, "end")
    for refused in (Request(ids=(1,) * 300), Request(ids=()), Request(ids=(512,))):
        with pytest.raises(ChildFailure) as caught:
            list(gptq.generate(refused))
        assert caught.value.fault.kind is FaultKind.REFUSED


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"speed": "high"}, "no such option: speed"),
        ({"loader": "vllm"}, "is none of gptqmodel, transformers"),
        ({"dtype": "int3"}, "is none of auto"),
        ({"device": "cuda:9"}, "no CUDA device"),
    ],
)
def test_what_is_not_there_is_refused_in_words(options: dict[str, Any], said: str, artifact: Path) -> None:
    if "device" in options and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(Failure, match=said):
        gptqmodel.open_runtime(str(artifact), RuntimeSettings(options=options))


def test_code_of_a_repo_is_never_run(artifact: Path, tmp_path: Path) -> None:
    evil = {"model_type": "nonesuch", "auto_map": {"AutoConfig": "evil.Config"}}
    with pytest.raises(Failure, match="code from a repo is never run"):
        gptqmodel.open_runtime(str(changed(artifact, tmp_path / "evil", **evil)), RuntimeSettings())


@pytest.mark.parametrize("name", ["mlp.up_proj.scales", "mlp.up_proj.qweight", "input_layernorm.weight"])
def test_a_tensor_that_is_missing_is_named(name: str, artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(artifact, tmp_path / "less")
    stored = load_file(artifact / "model.safetensors")
    del stored[f"model.layers.1.{name}"]
    save_file(stored, tmp_path / "less" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Failure, match=r"missing, model\.layers\.1\."):
        gptqmodel.open_runtime(str(tmp_path / "less"), RuntimeSettings())


@pytest.mark.slow
def test_transformers_loads_it_and_gives_the_same_logits(artifact: Path, gptq: Worker) -> None:
    ids = list(range(3, 60))
    with opened("gptqmodel", artifact, loader="transformers") as worker:
        assert worker.info.notes["loader"] == "transformers"
        assert np.abs(logits(worker, ids) - logits(gptq, ids)).max() < KERNEL_NOISE


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [
        "gptq: {bits: 8, group_size: 32, engine: gptqmodel}",
        pytest.param("awq: {group_size: 64}", marks=pytest.mark.exhaustive),
    ],
)
def test_what_the_project_makes_is_opened(target: str, chat: Made, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(WORDS, "utf-8")
    model = halved(chat.source, tmp_path / "model")
    (tmp_path / "tiny.yaml").write_text(
        f"model: {model}\ntargets:\n  {target}\ncalibration: {{text: words.txt, samples: 8, length: 64}}\n",
        "utf-8",
    )
    asked = recipe.load(tmp_path / "tiny.yaml", option_models())
    convert_recipe(asked, out=tmp_path / "out", threads=1, offline=True)
    (folder,) = (tmp_path / "out" / "tiny").glob("*/")
    assert runtimes_for(folder) == ("gptqmodel",)
    ids = list(range(3, 103))
    with opened("gptqmodel", folder) as worker, opened("transformers", chat.source) as source:
        assert worker.info.eog_ids == source.info.eog_ids
        assert worker.apply_template(CHAT) == source.apply_template(CHAT)
        assert np.abs(logits(worker, ids) - logits(source, ids)).max() < 1.0
