"""Whole checkpoints: tensors and config are the library's, and two independent readers agree on them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from compressed_tensors.quantization import QuantizationScheme

from convert import plan_recipe
from convert.checkpoint import open_checkpoint
from convert.errors import UsageFailure, UsageFailures
from convert.formats import option_models
from convert.formats.compressed_tensors.options import Scheme
from convert.recipe import load
from convert.store import read_manifest
from tests import tiny
from tests.compressed import library
from tests.hf.describing import convert_to, make
from verify.runtimes import RuntimeSettings, compressed_tensors, runtimes_for

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ALL = ", ".join(scheme.value for scheme in Scheme)
RENDERED = tiny.rendered("compressed-tensors")
FAMILIES = tiny.cases_of(RENDERED, quick=("llama",), slow=tiny.sample(RENDERED))
TOKENS = [int(token) for token in np.random.default_rng(3).integers(3, 256, 40)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def made(place: Path, source: Path, options: str, *, also: str = "", threads: int = 1) -> Path:
    """Convert, and give the folder of artifacts."""
    return convert_to(place, source, f"compressed-tensors: {options}\n  {also}", threads=threads)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_tensors_and_config_are_the_library_s(model_type: str, tmp_path: Path) -> None:
    """All schemes of one pass, by llmcompressor's own rule for what is quantized."""
    source = make(tmp_path / "source", tiny.Recipe(model_type, shards=2))
    out = made(tmp_path, source, f"{{scheme: [{ALL}], group_size: 32}}", also="hf: {}")
    plain = library.read(out / "hf")
    for scheme in Scheme:
        folder = out / f"compressed-tensors-{scheme}"
        wanted = library.config(folder)
        (group,) = wanted.config_groups.values()
        differing = library.differing(library.read(folder), library.checkpoint(plain, wanted))
        assert not differing, (scheme, library.layers(differing))
        assert group.format == wanted.format
        assert set(read_manifest(folder).tensors) == set(plain)


def logits(folder: Path, loader: str) -> NDArray[np.float32]:
    settings = RuntimeSettings(options={"loader": loader})
    runtime = compressed_tensors.open_runtime(str(folder), settings)
    assert runtime.info.notes["loader"] in ("transformers", "widened")
    return np.concatenate([block.copy() for block in runtime.logits(TOKENS)])


@pytest.mark.parametrize("model_type", FAMILIES)
def test_transformers_computes_what_our_reader_widens(model_type: str, tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe(model_type, dtype="F32", spread=0.03))
    folder = made(tmp_path, source, "{scheme: [w8a16], group_size: 32}") / "compressed-tensors-w8a16"
    assert runtimes_for(folder, "compressed-tensors") == ("compressed_tensors",)
    found, widened = logits(folder, "auto"), logits(folder, "widened")
    assert np.abs(found - widened).max() <= 1e-4 * np.abs(widened).max()


@pytest.mark.parametrize("scheme", ["w4a16", pytest.param("w8a16", marks=pytest.mark.slow)])
def test_zero_points_are_read_alike(scheme: str, tmp_path: Path) -> None:
    recipe = tiny.Recipe("llama", {"num_hidden_layers": 1}, dtype="F32", spread=0.03)
    source = make(tmp_path / "source", recipe)
    options = f"{{scheme: [{scheme}], group_size: 32, symmetric: false}}"
    folder = made(tmp_path, source, options) / f"compressed-tensors-{scheme}"
    found, widened = logits(folder, "transformers"), logits(folder, "widened")
    assert np.abs(found - widened).max() <= 1e-4 * np.abs(widened).max()


@pytest.mark.parametrize("scheme", Scheme)
def test_each_number_is_the_nearest_of_its_grid(scheme: Scheme, tmp_path: Path) -> None:
    """Read back by two readers: no weight is farther from its source than half a step."""
    source = make(tmp_path / "source", tiny.Recipe("qwen3", {"num_hidden_layers": 1}, dtype="F32"))
    folder = made(tmp_path, source, f"{{scheme: [{scheme}]}}") / f"compressed-tensors-{scheme}"
    name = "model.layers.0.mlp.down_proj.weight"
    with open_checkpoint(source) as plain, open_checkpoint(folder) as packed:
        rows = plain.tensors[name].shape[0]
        wanted, found = plain.rows(name, 0, rows), packed.rows(name, 0, rows)
        assert packed.tensors[name].stored_as
    # Of floats the step grows with the number: E4M3 has 3 bits after the first, E2M1 one.
    largest = np.abs(wanted).max()
    relative, absolute = {
        Scheme.FP8: (2.0**-4, 2.0**-9),
        Scheme.FP8_BLOCK: (2.0**-4, 2.0**-9),
        Scheme.MXFP8: (2.0**-4, 2.0**-9),
        Scheme.NVFP4A16: (2.0**-2, 1 / 12),
        Scheme.MXFP4: (2.0**-2, 1 / 8),
        Scheme.W8A8: (0.0, 0.5 / 127),
        Scheme.W8A16: (0.0, 0.51 / 127),
        Scheme.W4A16: (0.0, 0.51 / 7),
    }[scheme]
    assert (np.abs(found - wanted) <= np.abs(wanted) * relative + absolute * largest).all()
    assert np.abs(found - wanted).max() > 0
    stem = name.removesuffix("weight")
    state = {each.removeprefix(stem): part for each, part in library.read(folder).items() if stem in each}
    (group,) = library.config(folder).config_groups.values()
    assert isinstance(group, QuantizationScheme)
    theirs = library.decompress(state, group).float().numpy()
    # The library widens NVFP4 to BF16.
    rounded = 2.0**-8 if scheme is Scheme.NVFP4A16 else 0.0
    assert (np.abs(theirs - found) <= np.abs(found) * rounded + 1e-6 * largest).all()


def test_threads_and_shards_change_no_tensor(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("qwen"))
    found = []
    for name, threads, size in (("one", 1, "4G"), ("four", 4, "1M")):
        (tmp_path / name).mkdir()
        schemes = "scheme: [fp8_block, nvfp4a16, w4a16], group_size: 32, symmetric: false"
        options = f"{{{schemes}, max_shard_size: {size}}}"
        found.append(made(tmp_path / name, source, options, threads=threads))
    for scheme in ("fp8_block", "nvfp4a16", "w4a16"):
        one, four = (library.read(each / f"compressed-tensors-{scheme}") for each in found)
        assert not library.differing(one, four)
    index = json.loads((found[1] / "compressed-tensors-w4a16/model.safetensors.index.json").read_text())
    parts: dict[str, set[str]] = {}
    for name, path in index["weight_map"].items():
        parts.setdefault(name.rpartition(".weight")[0] or name, set()).add(path)
    assert max(map(len, parts.values())) == 1, "the parts of a matrix are in one file"


def test_a_matrix_that_two_files_cut_differently_is_right_in_both(tmp_path: Path) -> None:
    """Phi's q, k and v lie in one tensor: GGUF's rows of heads do not begin with FP8's blocks of 128."""
    changes = {"num_attention_heads": 4, "num_key_value_heads": 1, "hidden_size": 320}
    source = make(tmp_path / "source", tiny.Recipe("phi3", changes))
    both, alone = tmp_path / "both", tmp_path / "alone"
    for place, also in ((both, "hf: {}"), (alone, "")):
        place.mkdir()
        made(place, source, "{scheme: fp8_block}", also=also)
    name = "artifacts/recipe/compressed-tensors-fp8_block"
    assert not library.differing(library.read(both / name), library.read(alone / name))
    plain, wanted = library.read(both / "artifacts/recipe/hf"), library.config(both / name)
    assert not library.differing(library.read(both / name), library.checkpoint(plain, wanted))
    said = {each.subject for each in read_manifest(both / name).deviations}
    assert "model.layers.0.self_attn.qkv_proj.weight" in said


def test_groups_that_do_not_fit_are_refused_at_their_line(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("llama", {"intermediate_size": 96}))
    path = tmp_path / "odd.yaml"
    path.write_text(f"model: {source}\ntargets:\n  compressed-tensors: {{scheme: [w4a16]}}\n")
    with pytest.raises(UsageFailures, match="group_size: 128 does not divide 96") as refused:
        plan_recipe(load(path, option_models()), out=tmp_path / "out", offline=True)
    assert refused.value.problems[0].hint == "use 32 or -1, a whole row"
    path.write_text(f"model: {source}\ntargets:\n  compressed-tensors: [fp8, nvfp4a16, w8a8]\n")
    planned = plan_recipe(load(path, option_models()), out=tmp_path / "out", offline=True)
    assert [target.target for target in planned.targets] == [
        "compressed-tensors-fp8",
        "compressed-tensors-nvfp4a16",
        "compressed-tensors-w8a8",
    ]


@pytest.mark.parametrize(
    ("model_type", "why"),
    [("gpt2", "transposed matrices"), ("gpt_oss", "experts of a layer that are one tensor")],
)
def test_what_no_runtime_reads_is_refused(model_type: str, why: str, tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe(model_type))
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {source}\ntargets:\n  compressed-tensors: fp8\n")
    with pytest.raises(UsageFailure, match=why):
        plan_recipe(load(path, option_models()), out=tmp_path / "out", offline=True)


def test_options_that_reach_no_artifact_are_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("llama"))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {source}\ntargets:\n  compressed-tensors: {{scheme: [fp8, w8a8], group_size: 64}}\n"
    )
    with pytest.raises(UsageFailure, match="group_size: is of w4a16 and w8a16"):
        load(path, option_models())
