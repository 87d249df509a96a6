"""Deviations for a person: what many artifacts or layers share is told once, and nothing in it acts."""

from __future__ import annotations

import sys

import pytest

from convert.cli.deviations import Differing, deviations
from convert.cli.text import paragraph
from convert.deviation import Deviation

ALL = ("gguf-Q4_K_M", "gguf-Q8_0", "onnx-int4-cpu", "gptq")
LOST = Deviation("model", "as the source", "without", "its window is not carried")


def rows(layers: range, wanted: str = "Q4_K") -> list[Deviation]:
    return [Deviation(f"blk.{n}.down.weight", wanted, "Q5_0", "its rows are odd") for n in layers]


def shown(
    found: dict[str, list[Deviation]], artifacts: tuple[str, ...] = ALL, *, is_verbose: bool = True
) -> list[str]:
    given = {name: Differing(found.get(name, []), 24, 5.25) for name in artifacts}
    head, *lines = deviations(given, is_verbose=is_verbose)
    assert head == "not as the recipe or the source has it:"
    return lines


@pytest.mark.parametrize(
    ("having", "said"),
    [
        (ALL, ""),
        (ALL[:2], "gguf: "),
        (ALL[:1], "gguf-Q4_K_M: "),
        (ALL[:3], "gguf, onnx-int4-cpu: "),
        ((ALL[0], ALL[3]), "gguf-Q4_K_M, gptq: "),
    ],
    ids=["all", "a format", "one", "a format and one", "two of two formats"],
)
def test_what_artifacts_share_is_told_once(having: tuple[str, ...], said: str) -> None:
    assert shown({name: [LOST] for name in having}) == [f"  {said}model: its window is not carried"]


def test_a_single_artifact_needs_no_name() -> None:
    record = Deviation(
        subject="model", wanted="as the source", got="without", why="its window is not carried"
    )
    assert shown({"hf": [record]}, ("hf",)) == ["  model: its window is not carried"]


def test_layers_are_counted_for_each_artifact_by_itself() -> None:
    assert shown({ALL[0]: rows(range(12)), ALL[1]: rows(range(3)), ALL[3]: rows(range(3, 4))}) == [
        "  gguf-Q4_K_M: blk.*.down.weight (12 tensors): Q5_0 instead of Q4_K, because its rows are odd",
        "  gguf-Q8_0: blk.*.down.weight (3 tensors): Q5_0 instead of Q4_K, because its rows are odd",
        "  gptq: blk.3.down.weight: Q5_0 instead of Q4_K, because its rows are odd",
    ]


def test_a_long_list_is_one_sentence_unless_it_is_asked_for() -> None:
    other = [Deviation(f"blk.{n}.up.weight", "Q6_K", "Q8_0", "its rows are odd") for n in range(6)]
    instead = "Q5_0 or Q8_0 instead of Q4_K or Q6_K"
    found = {ALL[0]: [*rows(range(12)), *other, LOST], ALL[1]: rows(range(3))}
    assert shown(found, ALL[:2], is_verbose=False) == [
        f"  gguf-Q4_K_M: 18 of 24 matrices in {instead}, since its rows are odd: 5.2 bits a weight in all",
        "  gguf-Q4_K_M: model: its window is not carried",
        "  gguf-Q8_0: blk.*.down.weight (3 tensors): Q5_0 instead of Q4_K, because its rows are odd",
        "  (--verbose names them)",
    ]
    assert len(shown(found, ALL[:2])) == 4
    assert not list(deviations({"hf": Differing([], 0, None)}))


def test_layers_that_differ_in_more_stay_apart() -> None:
    assert [
        line.split(": ")[-2:] for line in shown({ALL[3]: rows(range(2)) + rows(range(2, 3), "Q6_K")})
    ] == [
        ["blk.*.down.weight (2 tensors)", "Q5_0 instead of Q4_K, because its rows are odd"],
        ["blk.2.down.weight", "Q5_0 instead of Q6_K, because its rows are odd"],
    ]


def test_a_strangers_words_do_nothing_to_a_terminal() -> None:
    (line,) = shown({"gptq": [Deviation("a\x1b[2Jb", "as the source", "", "line\nbreak")]})
    assert line == r"  gptq: a\x1b[2Jb: line break"


def test_a_line_is_broken_where_a_terminal_would_break_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Chinese character takes two of its columns."""
    whole = "hf: 模型.权重 (12 tensors): 没有保存 原来的类型 F64, 原因 写在这里 而 不是 那里"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    assert list(paragraph(whole, "  ")) == [
        "  hf: 模型.权重 (12 tensors): 没有保存",
        "    原来的类型 F64, 原因 写在这里 而",
        "    不是 那里",
    ]
    monkeypatch.setenv("COLUMNS", "39")  # so narrow that it is left to the terminal
    assert list(paragraph(whole, "  ")) == [f"  {whole}"]
