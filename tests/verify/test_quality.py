"""Perplexity, divergence and agreement, against the formulas written out in full."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from convert.errors import Failure
from convert.recipe import Gates
from verify.baseline import windows_of
from verify.gates import judge
from verify.judgment import figures
from verify.logprobs import (
    Comparison,
    Windows,
    compare_logits,
    cut,
    log_probabilities,
    save_reference,
)
from verify.quality import FIGURES, intervals, quality, summarize
from verify.runtimes import Info
from verify.task import Plan
from verify.text import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from verify.worker import Worker

VOCAB = 50
IDS = [int(token) for token in np.random.default_rng(2).integers(0, VOCAB, 203)]


class Table:
    """A model whose logits depend on the last token alone, and come in blocks of seven."""

    def __init__(self, seed: int, size: int = VOCAB, scale: float = 3.0) -> None:
        self.info = Info("table", ("logits",), context=512, vocab_size=size)
        self.rows = (np.random.default_rng(seed).standard_normal((size, size)) * scale).astype(np.float32)
        self.asked = 0

    def logits(self, ids: Sequence[int], first: int = 0) -> Iterator[NDArray[np.float32]]:
        self.asked += 1
        for at in range(first, len(ids), 7):
            yield self.rows[list(ids[at : at + 7])]

    def probability(self, token: int) -> NDArray[np.longdouble]:
        row = self.rows[token].astype(np.longdouble)
        weights = np.exp(row - row.max())
        return cast("NDArray[np.longdouble]", weights / weights.sum())


def worker(table: Table) -> Worker:
    return cast("Worker", table)


def pairs(windows: Windows) -> list[tuple[int, int]]:
    """Each scored token and the one that comes next, as perplexity.cpp goes through them."""
    first = windows.length // 2
    return [(ids[at], ids[at + 1]) for ids in windows.ids for at in range(first, windows.length - 1)]


def test_windows_are_those_of_llama_perplexity() -> None:
    windows = cut(IDS, 32)
    assert [len(ids) for ids in windows.ids] == [32] * 6
    assert windows.scored == range(16, 31)
    assert windows.positions == 6 * 15
    assert windows.targets()[0].tolist() == IDS[17:32]
    assert cut(IDS, 32, bos_id=49, most=2).ids[1] == (49, *IDS[33:64])
    for length in (8, 204):
        with pytest.raises(Failure, match="a window takes"):
            cut(IDS, length)


def test_perplexity_is_the_formula(tmp_path: Path) -> None:
    table, windows = Table(1), cut(IDS, 32)
    expected = [-math.log(table.probability(token)[after]) for token, after in pairs(windows)]
    reference = save_reference(worker(table), windows, tmp_path / "a.logits")
    found = compare_logits(worker(table), reference)
    assert found.surprisal.ravel() == pytest.approx(expected, rel=1e-6)
    assert summarize(found, windows.length).ppl == pytest.approx(math.exp(np.mean(expected)), rel=1e-7)


def test_divergence_and_agreement_are_the_formulas(tmp_path: Path) -> None:
    source, artifact, windows = Table(1), Table(2), cut(IDS, 32)
    reference = save_reference(worker(source), windows, tmp_path / "a.logits")
    found = compare_logits(worker(artifact), reference)
    divergences, same = [], []
    for token, _ in pairs(windows):
        p, q = source.probability(token), artifact.probability(token)
        divergences.append(float((p * (np.log(p) - np.log(q))).sum()))
        same.append(p.argmax() == q.argmax())
    assert found.divergence.ravel() == pytest.approx(divergences, rel=1e-6)
    assert found.is_same_top.ravel().tolist() == same
    figures = summarize(found, windows.length)
    assert figures.kl_mean == pytest.approx(np.mean(divergences))
    assert figures.kl_p99 == pytest.approx(np.quantile(divergences, 0.99))
    assert figures.ppl_ratio == pytest.approx(figures.ppl / figures.ppl_source)
    itself = quality(worker(source), reference)
    assert (itself.ppl_ratio, itself.kl_mean, itself.kl_p99, itself.top1) == (1.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_log_probabilities_are_stable(shift: float) -> None:
    logits = np.array([[shift, shift - 30, shift - 1000]], np.float32)
    assert log_probabilities(logits)[0] == pytest.approx(
        [-math.log1p(math.exp(-30)), -30, -1000], rel=1e-9, abs=1e-13
    )


def test_constants_pass_no_gate_of_odds(tmp_path: Path) -> None:
    constant = Table(1)
    constant.rows[:] = constant.rows[0]
    windows = cut(IDS, 32)
    reference = save_reference(worker(Table(1)), windows, tmp_path / "logits")
    found = summarize(compare_logits(worker(constant), reference), windows.length)
    checks = {check.name: check.passed for check in judge(Gates(), figures(None, {}, found))}
    assert (checks["kl_mean"], checks["top1"]) == (False, False)


def test_no_number_is_no_figure(tmp_path: Path) -> None:
    table, windows = Table(1), cut(IDS, 32)
    reference = save_reference(worker(table), windows, tmp_path / "a.logits")
    for wrong in (np.nan, np.inf, -np.inf):
        broken = Table(1)
        broken.rows[:, 7] = wrong
        with pytest.raises(Failure, match="not finite numbers"):
            compare_logits(worker(broken), reference)
    with pytest.raises(Failure, match="51 tokens and the source 50"):
        compare_logits(worker(Table(1, size=51)), reference)


def test_the_sources_logits_are_asked_for_once(tmp_path: Path) -> None:
    table, windows, path = Table(1), cut(IDS, 32), tmp_path / "new" / "a.logits"
    save_reference(worker(table), windows, path)
    save_reference(worker(table), windows, path)
    assert table.asked == len(windows.ids)
    path.write_bytes(path.read_bytes()[:-4])
    reference = save_reference(worker(table), windows, path)
    assert table.asked == 2 * len(windows.ids)
    assert sorted(each.name for each in path.parent.iterdir()) == ["a.logits", "a.logits.sha256"]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(Failure, match="ends too early"):
        compare_logits(worker(table), reference)


def test_intervals_hold_the_figure_and_do_not_change() -> None:
    random = np.random.default_rng(0)
    noise = random.standard_normal((8, 64)) * 0.01
    true = random.gamma(2.0, 1.0, (8, 64))
    pairing = Comparison(true, true + noise, noise**2, random.random((8, 64)) < 0.9)
    found = intervals(pairing)
    assert set(found) == set(FIGURES)
    assert all(found[name].low <= figure(pairing) <= found[name].high for name, figure in FIGURES.items())
    assert found["ppl_ratio"].high - found["ppl_ratio"].low < 0.01
    assert intervals(pairing) == found
    one = Comparison(true[:1], true[:1], noise[:1], noise[:1] > 0)
    assert intervals(one) == {}


def test_the_names_of_llama_perplexity_have_its_meanings() -> None:
    random = np.random.default_rng(3)
    divergence = random.gamma(0.5, 0.1, (4, 50))
    before, after = random.gamma(2.0, 1.0, (4, 50)), random.gamma(2.0, 1.0, (4, 50))
    found = summarize(Comparison(before, after, divergence, divergence < 0.1), 64)
    ordered = sorted(divergence.ravel())
    for name, rank in (("median", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)):
        place = rank * (len(ordered) - 1)
        low, share = ordered[int(place)], place - int(place)
        wanted = low + share * (ordered[min(len(ordered) - 1, int(place) + 1)] - low)
        assert getattr(found, f"kl_{name}") == pytest.approx(wanted)
    changes = [math.exp(-b) - math.exp(-a) for a, b in zip(before.ravel(), after.ravel(), strict=True)]
    assert found.kl_max == ordered[-1]
    assert found.dp_mean == pytest.approx(sum(changes) / len(changes))
    assert found.dp_rms == pytest.approx(math.sqrt(sum(each**2 for each in changes) / len(changes)))
    assert {"kl_median", "kl_max", "dp_rms"} <= found.intervals.keys()


def test_a_hopeless_model_has_a_perplexity_all_the_same() -> None:
    hopeless = np.full((2, 4), 1e5)
    figures = summarize(Comparison(np.zeros((2, 4)), hopeless, hopeless, hopeless < 0), 16)
    assert math.isfinite(figures.ppl_ratio)


def test_a_text_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("太阳系\n", encoding="utf-8")
    assert read_text(path, 100) == "太阳系"
    path.write_bytes("太".encode() * 1000)
    assert read_text(path, 1) == "太" * 5  # 16 bytes hold no sixth character
    path.write_bytes(b"ab\xffcdefgh")
    with pytest.raises(Failure, match="byte 2 is not UTF-8"):
        read_text(path, 100)
    path.write_bytes(b"\xff\xfe\xfd")  # nothing was cut of so short a file
    with pytest.raises(Failure, match="byte 0 is not UTF-8"):
        read_text(path, 100)


@pytest.mark.parametrize("count", [0, 1, 63])
def test_a_text_of_too_few_tokens_is_refused(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(1)
    monkeypatch.setattr(table, "tokenize", lambda _: [7] * count, raising=False)
    plan = Plan((), "", "the scenarios' own words")
    with pytest.raises(Failure, match=f"own words: {count} tokens are too few .*: 4 windows of 16 take 64"):
        windows_of(worker(table), plan)
    monkeypatch.setattr(table, "tokenize", lambda _: [7] * 64)
    assert windows_of(worker(table), plan).positions == 4 * 7


def test_a_cached_file_with_other_bytes_is_not_believed(tmp_path: Path) -> None:
    table, windows, path = Table(1), cut(IDS, 32), tmp_path / "a.logits"
    save_reference(worker(table), windows, path)
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole)))
    save_reference(worker(table), windows, path)
    assert path.read_bytes() == whole


def test_cached_logits_are_synced_before_they_have_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And their digest comes after them: a power cut leaves no name of a file without its bytes."""
    sync, rename, path = os.fsync, os.replace, tmp_path / "a.logits"
    done: list[tuple[str, str, int]] = []

    def noted_sync(descriptor: int) -> None:
        sync(descriptor)
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        done.append(("sync", name, os.fstat(descriptor).st_size))

    def noted_rename(old: Path, new: Path) -> None:
        done.append(("rename", f"{old.name} {new.name}", old.stat().st_size))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_rename)
    size = save_reference(worker(Table(1)), cut(IDS, 32), path).size_bytes
    expected: list[tuple[str, str, int]] = []
    for name, size_bytes in (("a.logits", size), ("a.logits.sha256", 64)):
        part = f".{name}.{os.getpid()}.part"
        expected += [("sync", part, size_bytes), ("rename", f"{part} {name}", size_bytes)]
    assert done == expected
