"""A model that is judged by what was learned from looks better than it is: that is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from convert import convert_recipe, load_recipe, plan_recipe
from convert.pipeline.likeness import likeness
from tests import tiny
from tests.hf.describing import make
from verify import scenarios
from verify.text import join_packs

if TYPE_CHECKING:
    from pathlib import Path

PACKS = ("searchqa", "lessonpack")


def test_runs_of_words_are_counted_once_in_any_script() -> None:
    one = "the quick brown fox jumps over the lazy dog and sleeps"
    other = "使用以下提供的资料来回答"
    assert likeness(one, ["He said: The QUICK brown fox, jumps over the lazy cat."]) == pytest.approx(1 / 4)
    assert likeness(f"{one}. {one}", [one]) == pytest.approx(4 / 11)  # what joins the two is new
    assert likeness(other, ["请使用以下提供的资料。"]) == pytest.approx(2 / 5)
    assert (likeness(other, []), likeness("few words", ["few words"])) == (0, 0)


@pytest.mark.parametrize("is_judged_by_it", [True, False])
def test_a_text_to_learn_from_that_is_judged_by_is_named(tmp_path: Path, is_judged_by_it: bool) -> None:  # noqa: FBT001
    said = join_packs(scenarios.load(PACKS))
    (tmp_path / "learn.txt").write_text(said[: len(said) // 2], "utf-8")
    make(tmp_path / "source", tiny.Recipe("llama"))
    text = "text: learn.txt" if is_judged_by_it else "packs: [searchqa, lessonpack]"
    (tmp_path / "r.yaml").write_text(
        "model: source\ntargets: {gguf: {quants: [Q8_0], imatrix: calibration}}\n"
        f"calibration: {{{text}, samples: 4, length: 32}}\n",
        "utf-8",
    )
    for run in (plan_recipe, convert_recipe):
        remarks: list[str] = []
        run(load_recipe(tmp_path / "r.yaml"), out=tmp_path / "out", offline=True, remark=remarks.append)
        warned = [each for each in remarks if "is in the calibration text (learn.txt) too" in each]
        assert len(warned) == is_judged_by_it, remarks
        assert all("% of the scenarios of verify" in each for each in warned)
