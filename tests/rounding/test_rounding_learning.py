"""What is learned of each matrix: the Hessians of its inputs, in bounded pieces, even after a kill."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert import convert_recipe, learning, load_recipe
from convert.calibration import Windows
from convert.checkpoint import open_checkpoint
from convert.digest import sha256_of
from convert.learning import hessian, learn
from convert.learning.asking import deviations
from convert.learning.layer_file import write_layer
from convert.model.binding import bind
from convert.model.config import read_config
from convert.model.decoder import Ref, Role
from convert.model.families import find_family
from convert.model.forward import Forward
from convert.model.source import Weights
from tests import tiny
from tests.hf.describing import make

if TYPE_CHECKING:
    from pathlib import Path

    from convert.learning import Lessons
    from convert.model.decoder import Decoder
    from convert.rounding import Factor


def opened(folder: Path) -> tuple[Decoder, Weights]:
    config = read_config(folder)
    family = find_family(config)
    decoder = family.describe(config)
    checkpoint = open_checkpoint(folder)
    return decoder, Weights(checkpoint, bind(decoder, family.naming, checkpoint.tensors))


def windows(decoder: Decoder, lengths: tuple[int, ...] = (24, 24, 10)) -> Windows:
    random = np.random.default_rng(0)
    tokens = tuple(random.integers(0, decoder.vocab_size, length).astype(np.int32) for length in lengths)
    return Windows(tokens, "text.txt", max(lengths), "digest")


def values(factor: Factor) -> list[bytes]:
    return [each.tobytes() for part in factor.parts for each in (part.order, part.weights, *part.panels)]


def assert_same(left: Lessons, right: Lessons) -> None:
    assert left.factors.keys() == right.factors.keys()
    for ref, factor in left.factors.items():
        assert values(factor) == values(right.factors[ref])


@pytest.mark.parametrize("name", ["llama", pytest.param("qwen3_moe", marks=pytest.mark.slow)])
def test_factors_are_those_of_what_goes_into_each_matrix(tmp_path: Path, name: str) -> None:
    decoder, weights = opened(tiny.make(tmp_path / "model", tiny.Recipe(name)))
    text = windows(decoder)
    found = learn(decoder, weights, text, tmp_path)
    seen: dict[Ref, Any] = {}
    counts: Counter[Ref] = Counter()

    def observe(refs: tuple[Ref, ...], rows: Any) -> None:
        for ref in refs:
            counts[ref] += len(rows)
            seen[ref] = seen.get(ref, 0) + rows.astype(np.float64).T @ rows

    forward = Forward(decoder, weights.checkpoint, weights.origins)
    for tokens in text.tokens:
        hidden = forward.embed(tokens[None])
        for layer in range(decoder.layer_count):
            hidden = forward.layer(layer, hidden, observe)
        observe((forward.head,), forward.last(hidden))
    kept = {ref for ref in seen if ref.role not in hessian.LEFT_OUT}
    assert ("expert_tokens_least" in found.record) == any(ref.expert is not None for ref in kept)
    assert kept == found.factors.keys()
    few = {ref for ref in kept if ref.expert is not None and counts[ref] < len(seen[ref])}
    assert set(found.scarce) == few
    assert {f"layers.{ref.layer}.{ref.role}.{ref.expert}" for ref in few} == {
        each.subject for each in deviations(found) if each.got == "solved by few tokens"
    }
    for ref in kept:
        (part,) = found.factors[ref].parts
        lower = np.eye(part.columns)
        for first, panel in zip(range(0, part.columns, 64), part.panels, strict=True):
            lower[first:, first : first + 64] += panel
        wanted = seen[ref][np.ix_(part.order, part.order)]
        wanted += found.factors[ref].damp * np.diagonal(wanted).mean() * np.eye(part.columns)
        assert np.abs(lower * part.weights @ lower.T - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_a_killed_pass_goes_on_with_its_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, weights = opened(tiny.make(tmp_path / "model", tiny.Recipe("llama")))
    whole = learn(decoder, weights, windows(decoder), tmp_path / "whole")
    write, written = write_layer, list[str]()

    def interrupted(path: Path, found: Any) -> None:
        if len(written) == 1:
            written.append("killed")
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, found)

    monkeypatch.setattr(learning, "write_layer", interrupted)
    monkeypatch.setattr(learning, "SAVE_S", 0)
    with pytest.raises(KeyboardInterrupt):
        learn(decoder, weights, windows(decoder), tmp_path / "killed")
    assert_same(whole, learn(decoder, weights, windows(decoder), tmp_path / "killed"))
    layers = [f"layer-{layer:05}" for layer in range(decoder.layer_count)]
    assert written == [layers[0], "killed", *layers[1:]]


def test_one_walk_serves_rounding_and_importance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "source", tiny.Recipe("llama"))
    target, more = "gguf: {quants: [Q8_0], imatrix: calibration}", "mlx: {quants: [4bit], rounding: gptq}"
    calibration = "calibration: {packs: [searchqa], samples: 4, length: 32}"
    layer, walked = Forward.layer, list[int]()

    def counted(forward: Forward, number: int, *args: Any) -> Any:
        walked.append(number)
        return layer(forward, number, *args)

    monkeypatch.setattr(Forward, "layer", counted)
    made = {}
    for name, targets in (("one", f"  {target}\n"), ("both", f"  {target}\n  {more}\n")):
        walked.clear()
        path = tmp_path / "m.yaml"
        path.write_text(f"model: source\ntargets:\n{targets}{calibration}\n", "utf-8")
        convert_recipe(load_recipe(path), out=tmp_path / name, offline=True)
        assert walked == sorted(set(walked))
        assert walked
        files = (tmp_path / name / "m" / "gguf-Q8_0").glob("*.gguf")
        made[name] = {file.name: sha256_of(file) for file in files}
    assert len(made["one"]) == 2
    assert made["one"] == made["both"]


def test_threads_make_no_difference(tmp_path: Path) -> None:
    decoder, weights = opened(tiny.make(tmp_path / "model", tiny.Recipe("llama")))
    one, three = (
        learn(decoder, weights, windows(decoder), tmp_path / str(threads), threads=threads)
        for threads in (1, 3)
    )
    assert_same(one, three)


def test_a_wide_matrix_has_several_hessians(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, weights = opened(tiny.make(tmp_path / "model", tiny.Recipe("llama")))
    columns = dict(decoder.shapes())[Ref(Role.MLP_DOWN, 0)][1]
    monkeypatch.setattr(hessian, "MAX_COLUMNS", columns // 2)
    monkeypatch.setattr(hessian, "TILE", columns // 4)
    found = learn(decoder, weights, windows(decoder), tmp_path)
    factor = found.factors[Ref(Role.MLP_DOWN, 0)]
    assert [part.columns for part in factor.parts] == [columns // 2] * 2
    assert factor.importance.shape == (columns,)
    assert (factor.importance > 0).all()
