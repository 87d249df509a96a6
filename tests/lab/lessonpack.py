"""LessonPack: a lesson in Markdown and its revisions over several turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab.dialogues import Dialogue, Turn, TurnKind
from tests.lab.facts import Language, entity_of
from tests.lab.names import Names, Split, listed

if TYPE_CHECKING:
    import random


@dataclass(frozen=True)
class Wording:
    """The fixed words of one language; {T} is the topic, {P} the pupils, {X} what a question is about."""

    system: str
    topics: tuple[str, ...]
    pupils: tuple[str, ...]
    requests: tuple[str, ...]
    outline: str
    revisions: dict[TurnKind, tuple[tuple[str, ...], str]]


ZH = Wording(
    system="你是一个具有丰富教学经验的AI助理",
    topics=listed(
        "太阳系|行星|月亮|水循环|植物|恐龙|火山|地震|海洋|森林|昆虫|鸟类|天气|四季|磁铁|电路|声音"
        "|光|空气|土壤|人体|心脏|牙齿|食物链|垃圾分类|节约用水|古代建筑|诗歌|民间故事|音乐|绘画"
        "|地图|时间|分数|图形|统计|交通安全"
    ),
    pupils=("小学生", "初中生", "高中生"),
    requests=(
        "我需要为{P}设计一堂关于{T}的课程，包括课程目标、主要内容和一个小测验。",
        "我需要为{P}设计一堂关于{T}的课程，包括课程目标、主要内容和一个小测验。",
        "请为{P}设计一堂关于{T}的课程，包括课程目标、主要内容和小测验。",
        "我要给{P}上一堂关于{T}的课，请写出课程目标、主要内容和小测验。",
    ),
    outline=(
        "# {T}\n\n## 课程目标\n1. 了解{T}的基本知识\n2. 说出{T}的主要特点\n3. 培养对{T}的兴趣\n\n"
        "## 主要内容\n1. 认识{T}\n2. {T}的特点\n3. {T}与生活\n\n"
        "## 小测验\n1. {T}是什么？\n2. {T}有哪些特点？\n3. 为什么要学习{T}？"
    ),
    revisions={
        TurnKind.EXPANSION: (
            ("请把内容部分扩充，加入更多有趣的事实", "请扩充内容部分，加入更多有趣的事实。"),
            (
                "## 主要内容\n1. 认识{T}\n2. {T}的特点\n3. {T}与生活\n"
                "4. 有趣的事实：古人也讲过{T}的故事\n5. 有趣的事实：科学家还在研究{T}"
            ),
        ),
        TurnKind.SECTIONS: (
            ("很好。请根据大纲撰写每一节的详细内容。", "请根据大纲写出每一节的详细内容。"),
            (
                "## 第1节 认识{T}\n先看图片，再说一说你知道的{T}。\n\n"
                "## 第2节 {T}的特点\n分组讨论{T}有哪些特点，并做记录。\n\n"
                "## 第3节 {T}与生活\n想一想{T}和我们的生活有什么关系。"
            ),
        ),
        TurnKind.CHOICE: (
            ("插入一道关于{X}的选择题", "请插入一道关于{X}的选择题。"),
            (
                "## 选择题\n4. 关于{X}，下面哪一项是正确的？\nA. {X}值得我们了解\nB. {X}和生活没有关系\n"
                "C. {X}没有任何特点\nD. {X}不能被讨论\n答案：A"
            ),
        ),
        TurnKind.SIMPLER: (
            ("将上一段文字用更简单的语言表述", "请将上一段文字用更简单的语言表述。"),
            "简单地说，{T}很有趣，我们可以边看边学。",
        ),
    },
)

EN = Wording(
    system="You are an AI assistant with rich teaching experience",
    topics=listed(
        "the solar system|planets|the moon|the water cycle|plants|dinosaurs|volcanoes|earthquakes"
        "|the ocean|forests|insects|birds|the weather|the seasons|magnets|electric circuits|sound"
        "|light|air|soil|the human body|the heart|teeth|food chains|recycling|saving water"
        "|old buildings|poetry|folk tales|music|painting|maps|time|fractions|shapes"
    ),
    pupils=("primary school pupils", "middle school pupils", "high school pupils"),
    requests=(
        (
            "I need to design a lesson about {T} for {P}, including learning goals, main content and a "
            "short quiz."
        ),
        (
            "I need to design a lesson about {T} for {P}, including learning goals, main content and a "
            "short quiz."
        ),
        "Please design a lesson about {T} for {P}, including learning goals, main content and a short quiz.",
        (
            "I am teaching {P} a lesson about {T}. Please write the learning goals, main content and a "
            "short quiz."
        ),
    ),
    outline=(
        "# {T}\n\n## Learning goals\n1. Know the basics of {T}\n2. Name the main features of {T}\n"
        "3. Become curious about {T}\n\n## Main content\n1. Getting to know {T}\n2. The features of {T}\n"
        "3. How {T} is part of our life\n\n## Quiz\n1. What do you know about {T}?\n"
        "2. Which features belong to {T}?\n3. Why do we learn about {T}?"
    ),
    revisions={
        TurnKind.EXPANSION: (
            (
                "Please expand the content section and add more interesting facts",
                "Expand the content section with more interesting facts.",
            ),
            (
                "## Main content\n1. Getting to know {T}\n2. The features of {T}\n"
                "3. How {T} is part of our life\n4. Interesting fact: old stories speak of {T}\n"
                "5. Interesting fact: scholars still study {T}"
            ),
        ),
        TurnKind.SECTIONS: (
            (
                "Very good. Please write out each section in detail according to the outline.",
                "Please write out each section of the outline in detail.",
            ),
            (
                "## Section 1 Getting to know {T}\nLook at a picture first and say what you know "
                "about {T}.\n\n"
                "## Section 2 The features of {T}\nTalk in groups about the features of {T} and "
                "take notes.\n\n"
                "## Section 3 How {T} is part of our life\nThink about what {T} has to do with our life."
            ),
        ),
        TurnKind.CHOICE: (
            (
                "Insert a multiple-choice question about {X}",
                "Please insert a multiple-choice question about {X}.",
            ),
            (
                "## Multiple choice\n4. Which statement about {X} is right?\nA. It is good to learn "
                "about {X}\n"
                "B. Nobody has heard of {X}\nC. There are no features of {X}\n"
                "D. We cannot talk about {X}\nAnswer: A"
            ),
        ),
        TurnKind.SIMPLER: (
            ("Put the last paragraph in simpler words", "Please put the last paragraph in simpler words."),
            "Put simply, it is fun to learn about {T}, and looking closely helps.",
        ),
    },
)
WORDING: dict[Language, Wording] = {"zh": ZH, "en": EN}


def dialogue(rng: random.Random, split: Split, language: Language, revisions: int | None = None) -> Dialogue:
    """Make a lesson and some of its revisions in any order; the held-out split has unseen topics."""
    words = WORDING[language]
    names = Names(rng, split)
    topic = entity_of(names, language)
    if split is Split.TRAIN and rng.random() < 0.4:
        topic = rng.choice(words.topics)
    pupils = rng.choice(words.pupils)
    request = rng.choice(words.requests).format(T=topic, P=pupils)
    turns = [Turn(TurnKind.OUTLINE, request, words.outline.format(T=topic))]
    order = rng.sample(tuple(words.revisions), len(words.revisions))
    for asked in order[: rng.randint(0, 4) if revisions is None else revisions]:
        other = topic if rng.random() < 0.5 else _subject(names, language, words)
        asks, answer = words.revisions[asked]
        turns.append(Turn(asked, rng.choice(asks).format(X=other), answer.format(T=topic, X=other)))
    return Dialogue(language, words.system, tuple(turns))


def _subject(names: Names, language: Language, words: Wording) -> str:
    if names.split is Split.TRAIN and names.rng.random() < 0.5:
        return names.rng.choice(words.topics)
    return entity_of(names, language)
