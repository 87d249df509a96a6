"""Lessons and their revisions that a check should pass, and those that it should fail, in both languages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.verify.answer_cases import EN, ZH
from verify.scenarios.fact import Fact

if TYPE_CHECKING:
    from verify.scenarios.checks import Context
    from verify.scenarios.wording import Language

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


LESSONS: list[tuple[str, Any, Context, str, bool]] = [
    ("no_runaway", True, ZH, LESSON_ZH, True),
    ("no_runaway", True, EN, LESSON_EN, True),
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
