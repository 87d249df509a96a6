"""A copy answers in the source's place where it has the source's tokens and odds, and nowhere else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from convert import load_recipe, verify_recipe
from convert.errors import Failure
from convert.pipeline.stage.judge import write_tokenizer
from convert.recipe import Gates
from tests.verify import planting, reports
from verify import baseline, source_copy
from verify.judgment import KL_LIMIT, shortfalls
from verify.logprobs import Reference, cut, save_reference
from verify.pilot import Rates
from verify.report import Copy, markdown
from verify.runtimes._tokenizer import FolderVocabulary
from verify.source_copy import is_worth, open_copy, sample_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.verify.conftest import Made
    from verify.logprobs import Windows
    from verify.worker import Worker

RATES = Rates(open_s=4.0, read_s=0.01, window_s=2.0, token_s=0.03, alone_s=0.1)


@pytest.fixture(scope="module")
def known(
    gguf: Worker, chat: Made, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Worker, Reference, Path]:
    """A model, its odds on a sample, and its tokenizer."""
    ids = [int(token) for token in range(3, 131)]
    sample = sample_of(cut(ids, 32))
    assert len(sample.ids) == source_copy.SAMPLE
    home = tmp_path_factory.mktemp("sample")
    tokenizer = write_tokenizer(chat.source, home / "tokenizer")
    gguf.info = replace(gguf.info, eog_ids=FolderVocabulary(tokenizer, {}).ends)  # as a source has them
    return gguf, save_reference(gguf, sample, home / "logits"), tokenizer


def test_the_same_weights_are_asked(
    chat: Made, known: tuple[Worker, Reference, Path], tmp_path: Path
) -> None:
    made: list[str] = []

    def make(quant: str, file: Path) -> None:
        made.append(quant)
        if quant == "F16":
            raise Failure("a weight is too large for F16")
        shutil.copy(planting.file_of(chat.f32), file)

    copy, opened = open_copy(make, tmp_path / "copy", *known)
    assert opened is not None
    opened.close()
    assert made == ["F16", "BF16"]
    assert (copy.is_asked, copy.positions) == (True, 2 * 15)
    assert copy.kl_mean is not None
    assert copy.kl_mean < 1e-9


def test_other_odds_or_ends_are_not(
    chat: Made, known: tuple[Worker, Reference, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_copy, "TYPES", ("F16",))
    monkeypatch.setattr(source_copy, "KL_LIMIT", 1e-9)

    def make(_: str, file: Path) -> None:
        shutil.copy(planting.file_of(chat.q8_0), file)

    copy, opened = open_copy(make, tmp_path / "copy", *known)
    assert (opened, copy.is_asked) == (None, False)
    assert copy.why.endswith("no less than 1e-09")
    with monkeypatch.context() as patch:
        patch.setattr(known[0], "info", replace(known[0].info, eog_ids=(511, 3)))
        copy, opened = open_copy(make, tmp_path / "copy", *known)
    assert (opened, copy.why) == (None, "its eog_ids is not the source's")
    assert not [*tmp_path.glob("copy*")]


def test_a_copy_must_save_more_than_it_takes() -> None:
    assert is_worth(270_000_000, RATES, asking_s=300, left_s=110)
    assert not is_worth(270_000_000, RATES, asking_s=50, left_s=1800)
    assert not is_worth(15_000_000_000, RATES, asking_s=3000, left_s=110)


def test_a_copy_that_differs_is_no_reference_for_a_release() -> None:
    found = reports.report()
    for kl, is_wrong in ((KL_LIMIT / 2, False), (KL_LIMIT * 2, True), (None, True)):
        copy = Copy(is_asked=True, why="as said", kl_mean=kl, positions=30)
        source = found.source.model_copy(update={"answered_by": copy})
        names = [name for name, _ in shortfalls(found.artifacts[0], source, Gates(), (), 1_250_000_000)]
        assert ("source" in names) is is_wrong
        shown = markdown.render(found.model_copy(update={"source": source}))
        assert "the source's answers: those of a faster copy: as said" in shown


@pytest.mark.slow
def test_a_slow_source_is_answered_for_by_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "is_worth", lambda *_: True)
    computed: list[Windows] = []

    def compute(worker: Worker, windows: Windows, path: Path) -> Reference:
        computed.append(windows)
        return save_reference(worker, windows, path)

    monkeypatch.setattr(baseline, "save_reference", compute)
    source = planting.make_source(tmp_path / "source")
    planting.write_pack(tmp_path / "pack.yaml")
    sound = planting.convert(source, tmp_path / "home", ["F16", "Q8_0"])
    recipe = tmp_path / "home" / "m.yaml"
    recipe.write_text(
        f"model: {source}\ntargets:\n  gguf: {{quants: [F16, Q8_0]}}\n"
        f"verify: {{scenarios: [{tmp_path / 'pack.yaml'}], tokens: 256}}\n"
    )
    text = tmp_path / "text"
    text.write_text("The solar system has eight planets, and materials are short. " * 40)
    out = sound["F16"].parents[1]
    report = verify_recipe(load_recipe(recipe), out=out, threads=1, text=text, measures="quality")
    copy = report.source.answered_by
    assert copy is not None, report.source
    assert copy.is_asked, copy.why
    assert copy.opened is not None
    assert (copy.opened.runtime, report.source.opened and report.source.opened.runtime) == (
        "llama_cpp",
        "transformers",
    )
    assert report.source.scenarios is not None
    first, second = report.artifacts
    assert first.quality is not None
    assert second.quality is not None
    assert first.quality.kl_mean < second.quality.kl_mean
    assert [len(windows.ids) for windows in computed] == [1]  # of the source: what the copy was compared on
