"""What GPTQModel makes of the two small models: better than rounding, and read alike by all who read it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from convert import convert_recipe, plan_recipe
from convert.formats import option_models
from convert.recipe import load
from convert.store import read_manifest
from tests.gptq.judging import Judge
from tests.gptq.packed import rounded, tensors, unpack, widened
from tests.gptq.text import to_learn_from

if TYPE_CHECKING:
    from convert import Plan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gptqmodel") is None, reason="needs GPTQModel"),
]
MODELS = Path(__file__).parents[2] / "recipes" / "models"
BITS, GROUP_SIZE = 4, 128
IDS = list(range(40, 140))
# A chat model learns from the packs, in its own format; one that continues text from a text.
TEXTS = {"tiny-qwen": "packs: [searchqa, lessonpack]", "tiny-gpt2": "text: text.txt"}
READING = Path(__file__).with_name("reading.py")


@dataclass(frozen=True)
class Made:
    """A model's own weights and its quantised ones, from one conversion."""

    name: str
    source: Path
    quantised: Path
    planned: Plan
    engine: str


# Each model and each engine once; `make test-exhaustive` runs all pairs.
SAMPLE = (("tiny-qwen", "gptqmodel"), ("tiny-gpt2", "native"))
ENGINES = [
    pytest.param(pair, marks=() if pair in SAMPLE else pytest.mark.exhaustive, id="-".join(pair))
    for pair in product(("tiny-qwen", "tiny-gpt2"), ("gptqmodel", "native"))
]


@pytest.fixture(scope="module", params=ENGINES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    name, engine = request.param
    place = tmp_path_factory.mktemp(name)
    (place / "text.txt").write_text(to_learn_from(), "utf-8")
    path = place / "small.yaml"
    path.write_text(
        f"model: {MODELS / name}\ntargets:\n  hf: {{}}\n  gptq: {{engine: {engine}}}\n"
        f"calibration: {{{TEXTS[name]}, samples: 48, length: 256}}\n",
        "utf-8",
    )
    recipe = load(path, option_models())
    planned = plan_recipe(recipe, out=place / "artifacts", offline=True)
    convert_recipe(recipe, out=place / "artifacts", offline=True)
    out = place / "artifacts" / "small"
    return Made(name, out / "hf", out / "gptq", planned, engine)


@pytest.fixture(scope="module", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


def test_it_loses_less_than_plain_rounding(made: Made) -> None:
    source = {name: tensor.float() for name, tensor in tensors(made.source).items()}
    quantised = {name for name in tensors(made.quantised) if name.endswith(".qweight")}
    is_turned = made.name == "tiny-gpt2"
    plain = dict(source)
    for name in (name.replace(".qweight", ".weight") for name in quantised):
        matrix = source[name].numpy()
        values = rounded(matrix.T if is_turned else matrix, BITS, GROUP_SIZE)
        plain[name] = torch.from_numpy((values.T if is_turned else values).copy())
    judge = Judge(made.source, source)
    ours, theirs = judge.loss(widened(made.quantised)), judge.loss(plain)
    assert ours.kl_mean < theirs.kl_mean
    assert ours.ppl_ratio < theirs.ppl_ratio


@pytest.fixture(scope="module")
def read(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What GPTQModel and Transformers read, in a process of their own."""
    out = tmp_path_factory.mktemp("read") / "read.npz"
    command = [sys.executable, "-W", "ignore", str(READING), str(made.quantised), str(out), *map(str, IDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(out) as found:
        return dict(found)


def test_the_weights_are_those_of_gptqmodel_s_own_reading(made: Made, read: dict[str, Any]) -> None:
    stored = tensors(made.quantised)
    names = {name.removesuffix(".qweight") for name in stored if name.endswith(".qweight")}
    assert names == {name for name in read if "logits" not in name}
    assert len(names) == (4 * 7 if made.name == "tiny-qwen" else 4 * 4)
    for name in names:
        ours = unpack(stored, name, BITS)
        assert (np.abs(ours.values - read[name]) <= np.abs(ours.steps) / 2).all(), name
        assert np.abs(ours.values).max() > 0, name


def test_the_runtimes_give_the_same_logits(made: Made, read: dict[str, Any]) -> None:
    plain = AutoModelForCausalLM.from_pretrained(made.source, dtype=torch.float32).eval()
    said = plain.load_state_dict(widened(made.quantised), strict=False)
    assert not said.unexpected_keys
    with torch.no_grad():
        expected = plain(torch.tensor([IDS])).logits[0].numpy()
    # In 16 bits there, in 32 here.
    assert np.sqrt(((read["logits"] - expected) ** 2).mean()) < 0.02
    if made.name == "tiny-qwen":
        assert np.array_equal(read["logits"], read["logits of transformers"])


def test_nothing_of_the_machine_is_in_it(made: Made) -> None:
    paths = [str(made.quantised.parents[1]), str(Path.home()), "/tmp/"]  # noqa: S108
    for path in made.quantised.rglob("*"):
        if path.name != "manifest.json":  # which quotes the recipe, and that names a folder of this machine
            data = path.read_bytes()
            assert not [each for each in paths if each.encode() in data], path.name
    for name in ("config.json", "quantize_config.json"):
        words = re.split(r"[^\w.-]+", (made.quantised / name).read_text("utf-8"))
        assert socket.gethostname() not in words
    raw = (made.quantised / "model.safetensors").read_bytes()
    header = raw[8 : 8 + int.from_bytes(raw[:8], "little")]
    pairs = json.loads(header, object_pairs_hook=list)
    if made.engine == "gptqmodel":  # which would write them in another order each time
        assert [name for name, _ in pairs] == sorted(name for name, _ in pairs)
    assert dict(pairs)["__metadata__"] == [("format", "pt")]


def test_it_ships_what_its_readers_look_for(made: Made) -> None:
    config = json.loads((made.quantised / "config.json").read_text("utf-8"))
    own = json.loads((made.quantised / "quantize_config.json").read_text("utf-8"))
    assert config["model_type"] == ("qwen2" if made.name == "tiny-qwen" else "gpt2")
    assert config["quantization_config"]["quant_method"] == "gptq"
    for told in (own, config["quantization_config"]):
        assert (told["bits"], told["group_size"], told["sym"], told["desc_act"]) == (4, 128, True, False)
    assert GenerationConfig.from_pretrained(made.quantised).eos_token_id
    assert (made.quantised / "tokenizer.json").is_file()
    assert (made.quantised / "chat_template.jinja").is_file() == (made.name == "tiny-qwen")
    tensors_told = read_manifest(made.quantised).tensors
    assert set(tensors_told) == {*tensors(made.source)}


def test_the_plan_told_its_size(made: Made) -> None:
    (planned,) = [each for each in made.planned.targets if each.target == "gptq"]
    manifest = read_manifest(made.quantised)
    assert planned.size_bytes == pytest.approx(manifest.size_bytes, rel=0.02)
