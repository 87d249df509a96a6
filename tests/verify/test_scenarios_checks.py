"""Each check with answers that pass and answers that fail, in both languages."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from verify.scenarios.checks import CHECKS, Seen, Verdict
from verify.scenarios.checks.citation import cited
from verify.scenarios.fact import Fact
from verify.scenarios.wording import Language, chinese_number, fold, has, numbers, sentences

ZH = Seen(
    answer="",
    raw="",
    language="zh",
    user="问题: 大桥全长多少米？",
    instruction=(
        "使用以下提供的资料来回答最后的问题。如果无法从中获得答案，请直接回答不知道。\n资料:\n\n问题: \n"
    ),
    question="大桥全长多少米？",
    materials=(
        "大桥于1957年10月15日正式通车，设计者是茅以升。",
        "大桥全长约1670米，上层为公路，下层为铁路。",
        "热干面是当地的传统小吃，配以芝麻酱。",
    ),
    shown_as={1: 1, 2: 2, 3: 3},
)
EN = replace(
    ZH,
    language="en",
    user="Question: How long is the bridge?",
    instruction=(
        "Use the materials provided below to answer the question at the end.\nMaterials:\n\nQuestion: \n"
    ),
    question="How long is the bridge?",
    materials=(
        "The bridge opened on 15 October 1957 and was designed by Jane Porter.",
        "The bridge is 1,670 metres long and carries a road and a railway.",
        "Dry noodles with sesame paste are a speciality of the town.",
    ),
)
PLANETS = (
    Fact(name="eight", claim=r"有([一二三四五六七八九十]+|\d+)大行星", values=("八", "8")),
    Fact(name="eight", claim=r"has (\w+) planets", values=("eight", "8")),
    Fact(name="order", order=("Mercury", "Venus", "Earth", "Mars", "Jupiter"), cue="in order"),
    Fact(name="顺序", order=("水星", "金星", "地球", "火星", "木星"), cue="依次"),
)
LESSON_ZH = (
    "# 月亮\n\n## 课程目标\n1. 认识月亮\n2. 说出月相\n\n## 主要内容\n"
    "1. 月亮是地球的卫星\n2. 月相的变化\n\n## 小测验\n1. 月亮会发光吗？"
)
LESSON_EN = (
    "# The Moon\n\n## Learning goals\n1. Know the Moon\n2. Name its phases\n\n## Main content\n"
    "1. The Moon is the satellite of Earth\n2. The phases of the Moon\n\n"
    "## Quiz\n1. Does the Moon shine by itself?"
)
QUIZ_ZH = "哪颗行星最大？\nA. 地球\nB. 木星\nC. 火星\n答案：B\n解析：木星的体积和质量都是最大的。"
QUIZ_EN = (
    "Which planet is the largest?\nA) Earth\nB) Jupiter\nC) Mars\n"
    "Answer: B\nExplanation: Jupiter has the greatest mass of all."
)
LONG_ZH = "月亮是围绕地球运行的天然卫星，由于它自身并不发光，我们所看见的月光其实是月球表面反射的太阳光。"
LONG_EN = (
    "The Moon, which is the natural satellite of our planet, does not emit light itself "
    "but reflects the light of the Sun."
)

RUNS = "大桥很长大桥很长"
CASES: list[tuple[str, Any, Seen, str, bool]] = [
    ("not_empty", True, ZH, "不知道", True),
    ("not_empty", True, EN, "I don't know", True),
    ("not_empty", True, EN, " \n ", False),
    ("not_empty", True, ZH, "……。", False),
    ("no_echo", True, ZH, "大桥全长多少米？大桥全长1670米。", True),
    ("no_echo", True, ZH, "使用以下提供的资料来回答最后的问题。大桥很长", False),
    ("no_echo", True, ZH, "1670米\n问题: 大桥有多宽？", False),
    ("no_echo", True, ZH, "1670米<|im_end|>", False),
    ("no_echo", True, ZH, "\n".join(ZH.materials), False),
    ("no_echo", True, EN, "The bridge is 1,670 metres long and carries a road and a railway.", True),
    ("no_echo", True, EN, "Use the materials provided below to answer the question at the end.", False),
    ("no_echo", True, EN, "1,670 metres\nQuestion: How wide is it?", False),
    ("no_echo", True, EN, "1,670 metres</s>", False),
    ("no_echo", True, EN, " ".join(EN.materials), False),
    ("no_runaway", True, ZH, LESSON_ZH, True),
    ("no_runaway", True, EN, LESSON_EN, True),
    ("no_runaway", True, EN, "| a | b |\n|---|---|\n| 1 | 2 |\n______\n______\n______\n______", True),
    ("no_runaway", True, ZH, RUNS * 4, False),
    ("no_runaway", True, ZH, "好" * 30, False),
    ("no_runaway", True, ZH, "大桥建成于一九五七年。\n" * 4, False),
    ("no_runaway", True, EN, "It is long. " * 6, False),
    ("no_runaway", True, EN, "The bridge is 1,670 metres long and it is very long, " * 5, False),
    ("no_runaway", True, EN, "the " * 14, False),
    ("in_language", True, ZH, "大桥全长1670米", True),
    ("in_language", True, ZH, "晨星 X20 Pro 的电池容量是 5200 mAh", True),
    ("in_language", True, ZH, "1670", True),
    ("in_language", True, ZH, "The bridge is long", False),
    ("in_language", True, EN, "The bridge is long", True),
    ("in_language", True, EN, "大桥全长1670米", False),
    ("answer", {"any": ["1670米"]}, ZH, "大桥全长约为１，６７０ 米。", True),
    ("answer", {"any": ["1670米"]}, ZH, "全长一千六百七十米", True),
    ("answer", {"any": ["1670米"]}, ZH, "全长11670米", False),
    ("answer", {"any": ["1670米"]}, ZH, "不知道", False),
    ("answer", {"any": ["1670米"], "none": ["1957"]}, ZH, "1957年建成，全长1670米", False),
    ("answer", {"all": ["铁路", "公路|马路"]}, ZH, "**马路**和铁路", True),
    ("answer", {"all": ["铁路", "公路|马路"]}, ZH, "只有铁路", False),
    ("answer", {"any": ["1670"]}, EN, "It is 1,670 metres long.", True),
    ("answer", {"any": ["1670"]}, EN, "It is 1,670.5 metres long.", False),
    ("answer", {"any": ["Ann"]}, EN, "Annual costs", False),
    ("answer", {"any": ["eight"]}, EN, "There are 8 of them", True),
    ("answer", {"any": ["Jane Porter"]}, EN, "JANE  PORTER designed it", True),
    ("answer", {"any": ["Jane Porter"]}, EN, "John Porter designed it", False),
    ("unknown", {}, ZH, "不知道。", True),
    ("unknown", {}, ZH, "根据提供的资料，无法得知大桥的宽度。", True),
    ("unknown", {}, ZH, "资料1、资料2和资料3都没有提到大桥的宽度。", True),
    ("unknown", {}, ZH, "资料中未提及宽度，只给出全长1670米。", True),
    ("unknown", {}, ZH, "资料里没有关于大桥宽度的任何信息。", True),
    ("unknown", {}, ZH, "资料未明确说明宽度，无法直接回答。", True),
    ("unknown", {}, ZH, "大桥宽18米。", False),
    ("unknown", {}, ZH, "不知道，但应该是18米。", False),
    ("unknown", {}, ZH, "资料中没有提到，不过宽度为18米。", False),
    ("unknown", {"none": ["1670米"]}, ZH, "不知道，1670米吧", False),
    ("unknown", {}, EN, "I don't know.", True),
    ("unknown", {}, EN, "The materials do not mention the width of the bridge.", True),
    (
        "unknown",
        {},
        EN,
        "It isn't stated in any of the 3 materials; only the length, 1,670 metres, is given.",
        True,
    ),
    ("unknown", {}, EN, "The width cannot be determined.", True),
    ("unknown", {}, EN, "The width is not explicitly stated.", True),
    ("unknown", {}, EN, "The materials do not directly say. Feel free to ask again!", True),
    ("unknown", {}, EN, "There is no specific information about its width.", True),
    ("unknown", {}, EN, "The bridge is 18 metres wide.", False),
    ("unknown", {}, EN, "I don't know, but it is probably wide.", False),
    ("unknown", {}, EN, "I'm not sure. It has 18 metres.", False),
    ("unknown", {"none": ["Porter"]}, EN, "I do not know, perhaps Porter knows.", False),
    ("grounded", {}, ZH, "根据资料2，大桥全长约1670米。", True),
    ("grounded", {}, ZH, "1. 大桥上层为公路\n2. 下层为铁路", True),
    ("grounded", {}, ZH, "大桥全长1880米。", False),
    ("grounded", {}, ZH, "大桥全长一千八百八十米。", False),
    ("grounded", {}, ZH, "大桥又叫“彩虹之路”。", False),
    ("grounded", {}, ZH, "由王建国教授带领学生在上海图书馆里完成了全部设计图纸。", False),
    ("grounded", {"allow": ["1.67公里"]}, ZH, "全长1.67公里", True),
    ("grounded", {}, EN, "The bridge is 1,670 metres long [2].", True),
    ("grounded", {}, EN, "It was designed by Jane Porter and opened in 1957.", True),
    ("grounded", {}, EN, "According to Jane Porter's design, the bridge carries a road and a railway.", True),
    ("grounded", {}, EN, "It is 1,880 metres long.", False),
    ("grounded", {}, EN, "It was designed by Robert Miller.", False),
    ("grounded", {}, EN, "People call it “the long road home”.", False),
    (
        "grounded",
        {},
        EN,
        "Engineers assembled steel arches above several concrete pillars during summer holidays.",
        False,
    ),
    ("cites", {"right": [2]}, ZH, "大桥全长1670米。", True),
    ("cites", {"right": [2]}, ZH, "根据资料2，全长1670米。", True),
    ("cites", {"right": [2]}, ZH, "根据资料1，全长1670米。", False),
    ("cites", {"right": [2]}, ZH, "根据资料7，全长1670米。", False),
    ("cites", {"right": [2], "needed": True}, ZH, "资料二", True),
    ("cites", {"right": [2], "needed": True}, ZH, "第2个资料。", True),
    ("cites", {"right": [2], "needed": True}, ZH, "2", True),
    ("cites", {"right": [2], "needed": True}, ZH, "资料中写着“上层为公路，下层为铁路”。", True),
    ("cites", {"right": [2], "needed": True}, ZH, "不是资料1，而是资料2。", True),
    ("cites", {"right": [2], "needed": True}, ZH, "资料1没有提到，资料2说全长1670米。", True),
    ("cites", {"right": [2], "needed": True}, ZH, "根据资料1、资料2和资料3。", False),
    ("cites", {"right": [2], "needed": True}, ZH, "根据我的知识。", False),
    ("cites", {"right": [2]}, EN, "It is 1,670 metres long.", True),
    ("cites", {"right": [2]}, EN, "According to material 2 it is 1,670 metres long.", True),
    ("cites", {"right": [2]}, EN, "According to the first material it is long.", False),
    ("cites", {"right": [2]}, EN, "As document [9] says.", False),
    ("cites", {"right": [2], "needed": True}, EN, "Material two.", True),
    ("cites", {"right": [2], "needed": True}, EN, "[2]", True),
    ("cites", {"right": [2], "needed": True}, EN, "Not material 1 but material 2.", True),
    ("cites", {"right": [2], "needed": True}, EN, "It says that it “carries a road and a railway”.", True),
    ("cites", {"right": [2], "needed": True}, EN, "Materials 1 and 2.", False),
    ("cites", {"right": [2], "needed": True}, EN, "From my own knowledge.", False),
    ("sections", ["goals", "content", "quiz"], ZH, LESSON_ZH, True),
    ("sections", ["goals", "content"], ZH, "一、教学目标\n认识月亮\n二、教学内容\n月相", True),
    ("sections", ["goals"], ZH, "**学习目标：** 认识月亮", True),
    ("sections", ["goals"], ZH, "课程目标：认识月亮", True),
    ("sections", ["goals", "homework"], ZH, LESSON_ZH, False),
    ("sections", ["goals"], ZH, "## 课程目标\n\n## 主要内容\n月亮", False),
    ("sections", ["月相"], ZH, "## 月相\n新月、满月", True),
    ("sections", ["goals", "content", "quiz"], EN, LESSON_EN, True),
    ("sections", ["goals"], EN, "**Learning Objectives:**\n- Know the Moon", True),
    ("sections", ["goals", "summary"], EN, LESSON_EN, False),
    ("sections", ["goals"], EN, "The Moon is nice.", False),
    ("markdown", {"headings": 3, "items": 4}, ZH, LESSON_ZH, True),
    ("markdown", {"headings": 3, "items": 4}, EN, LESSON_EN, True),
    ("markdown", {"headings": 1}, ZH, "#月亮\n内容", False),
    ("markdown", {"headings": 9}, EN, LESSON_EN, False),
    ("markdown", {"items": 9}, EN, LESSON_EN, False),
    ("markdown", {}, ZH, "**重点：**内容", True),
    ("markdown", {}, ZH, "**重点：内容", False),
    ("markdown", {}, ZH, "1. 月亮\n2. 月相\n4. 潮汐", False),
    ("markdown", {}, EN, "1. Moon\n1. Phases\n1. Tides", False),
    ("markdown", {}, EN, "4. Moon\n5. Phases", True),
    ("markdown", {}, EN, "1. Moon\n   - bright\n   - round\n2. Tides", True),
    ("markdown", {}, EN, "```\ncode", False),
    ("facts", True, replace(ZH, facts=PLANETS), "太阳系有八大行星。", True),
    ("facts", True, replace(ZH, facts=PLANETS), "月亮很美。", True),
    ("facts", True, replace(ZH, facts=PLANETS), "太阳系有九大行星。", False),
    ("facts", True, replace(ZH, facts=PLANETS), "太阳系有九大行星吗？", True),
    ("facts", True, replace(ZH, facts=PLANETS), "依次是水星、金星、地球、火星、木星。", True),
    ("facts", True, replace(ZH, facts=PLANETS), "依次是金星、水星、地球、火星、木星。", False),
    ("facts", True, replace(EN, facts=PLANETS), "The solar system has 8 planets.", True),
    ("facts", True, replace(EN, facts=PLANETS), "The solar system has nine planets.", False),
    ("facts", True, replace(EN, facts=PLANETS), "The solar system has nine planets (false).", True),
    (
        "facts",
        True,
        replace(EN, facts=PLANETS),
        "They are, in order, Mercury, Venus, Earth, Mars and Jupiter.",
        True,
    ),
    (
        "facts",
        True,
        replace(EN, facts=PLANETS),
        "They are, in order, Mars, Venus, Earth, Mercury and Jupiter.",
        False,
    ),
    (
        "facts",
        True,
        replace(EN, facts=PLANETS),
        "Jupiter is larger than Mars, and Earth larger than Venus.",
        True,
    ),
    ("quiz", {"about": ["行星"]}, ZH, QUIZ_ZH, True),
    ("quiz", {"about": ["恐龙"]}, ZH, QUIZ_ZH, False),
    ("quiz", {}, ZH, QUIZ_ZH.replace("答案：B", "正确答案是 **B**"), True),
    ("quiz", {}, ZH, QUIZ_ZH.replace("C. 火星\n", ""), False),
    ("quiz", {}, ZH, QUIZ_ZH.replace("答案：B", "答案：E"), False),
    ("quiz", {}, ZH, QUIZ_ZH.replace("答案：B\n", ""), False),
    ("quiz", {}, ZH, QUIZ_ZH.replace("解析：木星的体积和质量都是最大的。", ""), False),
    ("quiz", {}, ZH, QUIZ_ZH.replace("火星", "地球"), False),
    ("quiz", {"about": ["planet"]}, EN, QUIZ_EN, True),
    ("quiz", {}, EN, QUIZ_EN.replace("A)", "- A.").replace("B)", "- B.").replace("C)", "- C."), True),
    ("quiz", {}, EN, QUIZ_EN.replace("\nB) Jupiter\nC)", " B) Jupiter C)"), True),
    ("quiz", {"options": 4}, EN, QUIZ_EN, False),
    ("quiz", {}, EN, QUIZ_EN.replace("Answer: B", "Answer: D"), False),
    ("quiz", {}, EN, QUIZ_EN.replace("Answer: B", ""), False),
    ("quiz", {}, EN, QUIZ_EN.replace("Explanation: Jupiter has the greatest mass of all.", ""), False),
    (
        "quiz",
        {"explained": False},
        EN,
        QUIZ_EN.replace("Explanation: Jupiter has the greatest mass of all.", ""),
        True,
    ),
]
REVISIONS: list[tuple[str, Any, Language, str, str, bool]] = [
    (
        "keeps",
        {"section": "content"},
        "zh",
        LESSON_ZH,
        "## 主要内容\n1. 月亮是地球的卫星\n2. 月相怎样变化\n3. 潮汐",
        True,
    ),
    ("keeps", {"section": "content"}, "zh", LESSON_ZH, "## 主要内容\n1. 恐龙的时代\n2. 火山", False),
    (
        "keeps",
        {"section": "content"},
        "en",
        LESSON_EN,
        "The Moon is the satellite of Earth, and its phases change.",
        True,
    ),
    ("keeps", {}, "en", LESSON_EN, "Volcanoes are hot.", False),
    (
        "longer",
        {"section": "content"},
        "zh",
        LESSON_ZH,
        "## 主要内容\n1. 月亮是地球的卫星，绕地球运行\n2. 月相的变化",
        True,
    ),
    ("longer", {"section": "content"}, "zh", LESSON_ZH, "## 主要内容\n1. 月亮\n2. 月相", False),
    ("longer", {"times": 1.5}, "en", LONG_EN, LONG_EN + " " + LONG_EN, True),
    ("longer", {"times": 1.5}, "en", LONG_EN, LONG_EN, False),
    ("changed", {}, "zh", LONG_ZH, LONG_ZH, False),
    ("changed", {}, "zh", LONG_ZH, "月亮自己不发光。", True),
    ("changed", {}, "en", LONG_EN, LONG_EN.replace("our", "the"), False),
    ("changed", {}, "en", LONG_EN, "The Moon gives no light of its own.", True),
    ("simpler", {}, "zh", LONG_ZH, "月亮自己不发光。月光是太阳的光。", True),
    ("simpler", {}, "zh", LONG_ZH, LONG_ZH, False),
    ("simpler", {}, "zh", LONG_ZH, "恐龙吃草。", False),
    ("simpler", {}, "zh", "月亮不发光。", LONG_ZH, False),
    ("simpler", {}, "en", LONG_EN, "The Moon has no light. It sends back light of the Sun.", True),
    ("simpler", {}, "en", LONG_EN, "Cats eat fish.", False),
    ("simpler", {}, "en", "The Moon has no light.", LONG_EN, False),
]


SET = True


def judged(name: str, options: Any, seen: Seen) -> Verdict:
    check = CHECKS[name]
    # As a pack gives them: lists for tuples, mappings for models.
    return check.judge(seen, TypeAdapter(check.options).validate_json(json.dumps(options)))


@pytest.mark.parametrize(
    ("name", "options", "seen", "answer", "passes"),
    CASES,
    ids=[f"{n}-{s.language}-{a[:24]}" for n, _, s, a, _ in CASES],
)
def test_check(name: str, options: Any, seen: Seen, answer: str, *, passes: bool) -> None:
    verdict = judged(name, options, replace(seen, answer=answer, raw=answer))
    assert verdict.passed == passes, verdict.why
    assert verdict.passed or verdict.why


@pytest.mark.parametrize(("name", "options", "language", "former", "answer", "passes"), REVISIONS)
def test_revision(
    name: str, options: Any, language: Language, former: str, answer: str, *, passes: bool
) -> None:
    verdict = judged(name, options, Seen(answer=answer, raw=answer, language=language, earlier=("x", former)))
    assert verdict.passed == passes, verdict.why


def test_a_chat_model_that_goes_on_to_the_limit_has_lost_its_end() -> None:
    seen = replace(EN, answer="So it goes", end="length")
    assert not judged("ends", SET, seen).passed
    assert judged("ends", SET, replace(seen, is_chat=False)).passed
    assert judged("ends", SET, replace(seen, end="end")).passed


def test_a_source_is_counted_as_it_was_shown() -> None:
    """Material 3 of the pack is the second one sent when the first did not fit."""
    seen = replace(ZH, materials=ZH.materials[1:], shown_as={2: 1, 3: 2})
    assert judged("cites", {"right": [3], "needed": True}, replace(seen, answer="资料2")).passed
    assert not judged("cites", {"right": [3], "needed": True}, replace(seen, answer="资料3")).passed
    verdict = judged("cites", {"right": [1], "needed": True}, replace(seen, answer="根据资料"))
    assert "did not fit" in verdict.why


def test_every_check_has_cases_in_both_languages() -> None:
    for name in CHECKS:
        if name == "ends":
            continue
        tables = {(s.language, p) for n, _, s, _, p in CASES if n == name}
        tables |= {(language, p) for n, _, language, _, _, p in REVISIONS if n == name}
        wanted = {(language, passes) for language in get_args(Language) for passes in (True, False)}
        assert tables == wanted, f"{name}: {wanted - tables} missing"


@pytest.mark.parametrize(
    ("text", "numbers_cited"),
    [
        ("根据资料2", {2}), ("资料二", {2}), ("资料 10", {10}), ("第二份资料", {2}), ("第2条。", {2}),
        ("【3】", {3}),
        ("资料1和资料3", {1, 3}), ("资料1、2", {1, 2}), ("资料2020年显示", set()), ("资料：3人参加", set()),
        ("资料一般", set()), ("材料十分丰富", set()),
        ("[2]", {2}), ("material 2", {2}), ("Material #3.", {3}), ("the second material", {2}),
        ("materials 1 and 2", {1, 2}), ("materials 1, 2 and 3", {1, 2, 3}), ("document [4]", {4}),
        ("the first and second materials", {1, 2}), ("the 2nd source", {2}), ("no material", set()),
        ("material 1 does not say", set()), ("资料1没有提到", set()),
    ],
)  # fmt: skip
def test_citations_are_read_in_every_spelling(text: str, numbers_cited: set[int]) -> None:
    assert cited(text) == numbers_cited


@pytest.mark.parametrize(
    ("text", "wanted", "stands"),
    [
        ("长１，０００米", "1000米", True), ("长 1 000 米", "1000米", True), ("一千米", "1000米", True),
        ("10000米", "1000米", False), ("1000.5米", "1000", False), ("2012年", "12", False),
        ("一九五七年", "1957年", True),
        ("三万五千人", "35000人", True), ("Zhāng Wěi", "zhāng wěi", True), ("don’t", "don't", True),
        ("", "1", False),
    ],
)  # fmt: skip
def test_words_are_found_in_every_form(text: str, wanted: str, *, stands: bool) -> None:
    assert has(text, wanted) == stands


def test_numbers_and_sentences() -> None:
    values = {
        "十": 10,
        "二十三": 23,
        "一百零五": 105,
        "三万五千": 35_000,
        "一九〇〇": 1900,
        "一亿二千万": 120_000_000,
    }
    assert {text: chinese_number(text) for text in values} == values
    assert numbers("1.5万人，二十三个，3,000元，第一") == {"1.5", "15000", "23", "3000"}
    assert sentences("It is 3.5 m. Right!\n对。好") == ["It is 3.5 m.", "Right!", "对。", "好"]
    assert fold("## **Ａ**  b") == "a b"
