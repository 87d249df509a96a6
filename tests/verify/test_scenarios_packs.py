"""Packs: those that are shipped, and what is said about one that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from convert.errors import UsageFailure, UsageFailures
from convert.formats import option_models
from convert.recipe import load as load_recipe
from verify.scenarios import load, names, read

if TYPE_CHECKING:
    from pathlib import Path

    from verify.scenarios.pack import Pack

PROMPT = """\
使用以下提供的资料来回答最后的问题。如果无法从中获得答案，请直接回答不知道。
资料:
1. {文档片段1}
2. {文档片段2}
问题: {用户问题}"""
SMALL = """\
scenario: mine
language: en
prompts:
  ask: "Materials:\\n{materials}\\nQuestion: {question}"
completion: {cue: "Answer:"}
dialogues:
  - name: first
    materials: [The bridge is 30 metres long., Bread is good.]
    turns:
      - prompt: ask
        question: How long is the bridge?
        checks: {answer: {any: [30 metres]}, cites: {right: [1]}}
        reference: 30 metres, says material 1.
"""

SHOWN = "    materials: [The bridge is 30 metres long., Bread is good.]\n"
TURN = "dialogues[0].turns[0]"


def faults(folder: Path, text: str) -> list[tuple[str, str]]:
    """The findings, without the file's name."""
    file = folder / "p.yaml"
    file.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(UsageFailures) as raised:
        read(file)
    for problem in raised.value.problems:
        assert "\n" not in problem.message + problem.hint
        assert problem.hint
        assert "recipe" not in problem.message + problem.hint
    return [(problem.message.removeprefix(f"{file}:"), problem.hint) for problem in raised.value.problems]


def test_there_are_as_many_dialogues_as_promised_half_of_each_language() -> None:
    assert names() == ("lessonpack", "searchqa")
    counts: dict[tuple[str, str], int] = {}
    for pack in load(names()):
        counts[pack.scenario, pack.language] = len(pack.dialogues)
    assert counts["searchqa", "zh"] == counts["searchqa", "en"] >= 15
    assert counts["lessonpack", "zh"] == counts["lessonpack", "en"] >= 5


def test_the_prompts_are_the_designs_word_for_word() -> None:
    packs = {(pack.scenario, pack.language): pack for pack in load(names())}
    searchqa = packs["searchqa", "zh"]
    dialogue = searchqa.dialogues[0]
    filled = dialogue.turns[0].model_copy(update={"question": "{用户问题}"})
    assert searchqa.user(filled, ("{文档片段1}", "{文档片段2}")) == PROMPT
    assert searchqa.user(dialogue.turns[1], ()) == "你是根据哪个资料得出这个结论的？"
    lessonpack = packs["lessonpack", "zh"]
    assert lessonpack.system == "你是一个具有丰富教学经验的AI助理"
    assert [turn.user for turn in lessonpack.dialogues[0].turns] == [
        "我需要为小学生设计一堂关于太阳系的课程，包括课程目标、主要内容和一个小测验。",
        "请把内容部分扩充，加入更多有趣的事实",
        "很好。请根据大纲撰写每一节的详细内容。",
        "插入一道关于行星的选择题",
        "将上一段文字用更简单的语言表述",
    ]


@pytest.mark.parametrize("pack", load(names()), ids=lambda pack: f"{pack.scenario}-{pack.language}")
def test_every_shipped_turn_is_checked_and_has_a_reference(pack: Pack) -> None:
    """That each reference passes its checks is held when a pack is read."""
    for dialogue in pack.dialogues:
        for turn in dialogue.turns:
            assert turn.reference, dialogue.name
            assert len(pack.checks_of(turn)) > len(list(pack.every.asked())), dialogue.name
    if pack.scenario == "searchqa":
        unanswerable = [d for d in pack.dialogues if "unknown" in dict(d.turns[0].checks.asked())]
        assert len(unanswerable) >= 3
        assert all(len(dialogue.materials) >= 3 for dialogue in pack.dialogues)
        assert all(dialogue.turns[1].prompt == "cite" for dialogue in pack.dialogues)


def test_a_placeholder_within_a_material_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(SMALL, encoding="utf-8")
    pack = read(tmp_path / "p.yaml")
    user = pack.user(pack.dialogues[0].turns[0], ("{question} {materials}", "x"))
    assert user == "Materials:\n1. {question} {materials}\n2. x\nQuestion: How long is the bridge?"


def test_a_pack_of_ones_own_is_found_from_the_recipes_folder(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "mine.yaml").write_text(SMALL, encoding="utf-8")
    recipe = tmp_path / "r.yaml"
    head = "model: a/b\ntargets:\n  gguf: {quants: [Q8_0]}\n"
    recipe.write_text(head + "verify: {scenarios: [searchqa, packs/mine.yaml]}\n", encoding="utf-8")
    wanted = load_recipe(recipe, option_models()).verify.scenarios
    assert wanted == ("searchqa", "packs/mine.yaml")
    assert [pack.scenario for pack in load(wanted, tmp_path)] == ["searchqa", "searchqa", "mine"]


@pytest.mark.parametrize(
    ("scenario", "what", "hint"),
    [
        ("packs/none.yaml", "there is no file packs/none.yaml", "the recipe's folder"),
        ("serchqa", "'serchqa' is not known", "did you mean searchqa?"),
        ("packs/none", "'packs/none' is not known", "the path of a pack"),
    ],
)
def test_a_recipe_that_names_no_pack_is_refused_with_its_line(
    tmp_path: Path, scenario: str, what: str, hint: str
) -> None:
    recipe = tmp_path / "r.yaml"
    text = (
        f"model: a/b\ntargets:\n  gguf: {{quants: [Q8_0]}}\nverify:\n  scenarios: [lessonpack, {scenario}]\n"
    )
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(UsageFailures) as raised:
        load_recipe(recipe, option_models())
    assert raised.value.problems[0].message == f"{recipe}:5: verify.scenarios[1]: {what}"
    assert hint in raised.value.problems[0].hint


def test_what_is_no_pack_is_said_in_a_line(tmp_path: Path) -> None:
    for scenario, what, hint in (
        ("serchqa", "no scenario is called serchqa", "did you mean searchqa?"),
        ("none.yaml", "none.yaml: cannot be read: no such file", "name a YAML file"),
    ):
        with pytest.raises(UsageFailure) as raised:
            load([scenario], tmp_path)
        assert what in raised.value.message
        assert hint in raised.value.hint


CASES = [
    ("", "1: the file is empty", "a pack has at least"),
    ("[]", "1: a pack is a mapping", "scenario: searchqa"),
    ("a: [", "1: this is not YAML", "look here"),
    (SMALL.replace("language: en", "language: fr"), "2: language: 'fr' is not known", "one of zh, en"),
    (SMALL.replace("scenario: mine\n", ""), "1: scenario: is missing", "searchqa"),
    (
        SMALL.replace("question: How", "qestion: How"),
        f"11: {TURN}.qestion: unknown key",
        "did you mean question?",
    ),
    (
        SMALL.replace("{any: [30 metres]}", "{eny: [30 metres]}"),
        f"12: {TURN}.checks.answer.eny: unknown key",
        "did you mean any?",
    ),
    (SMALL.replace("{any: [30 metres]}", "{any: 30}"), f"12: {TURN}.checks.answer.any: must be a list", ""),
    (SMALL.replace("{any: [30 metres]}", "{}"), f"12: {TURN}.checks.answer: is empty", "any"),
    (
        SMALL.replace("checks: {answer", "checks: {anser"),
        f"12: {TURN}.checks.anser: unknown key",
        "did you mean answer?",
    ),
    (
        SMALL.replace("right: [1]", "right: [3]"),
        f"12: {TURN}.checks.cites.right: there is no material 3",
        "has 2",
    ),
    (
        SMALL.replace("prompt: ask", "prompt: aks"),
        f"10: {TURN}.prompt: there is no prompt aks",
        "did you mean ask?",
    ),
    (
        SMALL.replace("prompt: ask", "user: hello"),
        f"10: {TURN}: there is a question, but no prompt",
        "prompt: ask",
    ),
    (
        SMALL.replace("        question: How long is the bridge?\n", ""),
        f"10: {TURN}.question: is missing",
        "{question}",
    ),
    (
        SMALL.replace(SHOWN, "").replace(", cites: {right: [1]}", ""),
        f"9: {TURN}.prompt: the prompt ask shows materials",
        "materials:",
    ),
    (
        SMALL.replace("reference: 30", "reference: 40"),
        f"13: {TURN}.reference: fails the pack's own check answer",
        "correct the",
    ),
    (
        SMALL + "  - {name: first, turns: [{user: hi}]}\n",
        "14: dialogues[1].name: first twice, first in line 7",
        "once",
    ),
    (SMALL + "  - {name: second, turns: []}\n", "14: dialogues[1].turns: is empty", "turns"),
    (SMALL + "advisory: [simplr]\n", "14: advisory[0]: 'simplr' is not a check", "did you mean simpler?"),
    (
        SMALL + "facts: [{name: a, claim: '(', values: [b]}]\n",
        "14: facts[0].claim: is not a regular expression",
        "regular expression",
    ),
    (
        SMALL + "facts: [{name: a, claim: 'x', values: [b]}]\n",
        "14: facts[0]: a claim needs a group",
        "values",
    ),
    (SMALL + "facts: [{name: a}]\n", "14: facts[0]: must be either", "order"),
    (SMALL + "every: {not_empty: yes}\n", "14: every.not_empty: must be true or false", "write true"),
    (SMALL + "max_tokens: 0\n", "14: max_tokens: 0 is out of bounds", "at least 1"),
    (SMALL + "scenario: again\n", "14: scenario: given twice", "keep one"),
    (
        SMALL.replace(SHOWN, "    materials: [2024, Bread]\n"),
        "8: dialogues[0].materials[0]: 2024 is read as a number",
        "quotes",
    ),
    (SMALL.replace("name: first", "name: First one"), "7: dialogues[0].name: ", "bridge-length"),
]


@pytest.mark.parametrize(("text", "what", "hint"), CASES, ids=[case[1] for case in CASES])
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, what: str, hint: str) -> None:
    found = faults(tmp_path, text)
    assert len(found) == 1, found
    assert found[0][0].startswith(what)
    assert hint in found[0][1]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = (
        SMALL.replace("language: en", "language: fr").replace("prompt: ask", "promt: ask") + "advisry: []\n"
    )
    assert [message.split(":")[0] for message, _ in faults(tmp_path, text)] == ["2", "10", "14"]


def test_a_pattern_that_takes_too_long_is_said_and_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verify.scenarios.fact.PATTERN_LIMIT_S", 0.05)
    slow = SMALL.replace("says material 1.", f"says material 1. {'a' * 80}b")
    slow += "every: {facts: true}\nfacts: [{name: slow, claim: '((?:a|a[ab])+)[cd]', values: [b]}]\n"
    assert "facts: slow: its pattern takes more than 0.05 s" in faults(tmp_path, slow)[0][0]
