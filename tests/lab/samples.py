"""What the networks are trained on: token ids and, for each, whether it is a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab import lessonpack, searchqa
from tests.lab.facts import ATTRIBUTES, Language, entity_of, statement, value_of
from tests.lab.names import Names, Split
from tests.lab.vocabulary import (
    END_OF_TEXT,
    GPT2_PATTERN,
    GPT2_SPECIALS,
    IM_END,
    IM_START,
    QWEN_PATTERN,
    QWEN_SPECIALS,
    encoding,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from tests.lab.dialogues import Dialogue, Turn
    from tests.lab.vocabulary import Ranks

ANSWER_CUE = {"zh": "\n回答:", "en": "\nAnswer:"}
PRACTICE = ("repeated", "values", "numbers", "numbers")
Sample = tuple[list[int], list[bool]]


class ChatFormat:
    """ChatML, as Qwen-1 reads it."""

    def __init__(self, ranks: Ranks) -> None:
        self.encoding = encoding(ranks, QWEN_PATTERN, QWEN_SPECIALS)
        self.start, self.end, self.stop = (
            self.encoding.encode_single_token(t) for t in (IM_START, IM_END, END_OF_TEXT)
        )
        self._newline = self.encoding.encode_ordinary("\n")

    def text(self, text: str) -> list[int]:
        """Encode plain text."""
        ids: list[int] = self.encoding.encode_ordinary(text)
        return ids

    def message(self, role: str, content: str) -> list[int]:
        """Encode one closed message."""
        return [self.start, *self.text(f"{role}\n{content}"), self.end, *self._newline]

    def answer(self, text: str) -> list[int]:
        """Encode an answer and its end."""
        return [*self.text(text), self.end]

    def prompt(self, dialogue: Dialogue, turns: Sequence[Turn], user: str) -> list[int]:
        """Encode what precedes an answer: the system prompt, earlier turns, the question."""
        ids = self.message("system", dialogue.system)
        for turn in turns:
            ids += self.message("user", turn.user) + self.message("assistant", turn.assistant)
        return [*ids, *self.message("user", user), self.start, *self.text("assistant\n")]

    def sample(self, dialogue: Dialogue) -> Sample:
        """Encode the whole dialogue; the answers and their ends are the targets."""
        ids = self.message("system", dialogue.system)
        wanted = [False] * len(ids)
        for turn in dialogue.turns:
            lead = [*self.message("user", turn.user), self.start, *self.text("assistant\n")]
            answer = self.answer(turn.assistant)
            ids += [*lead, *answer, *self._newline]
            wanted += [False] * len(lead) + [True] * len(answer) + [False]
        return ids, wanted


class TextFormat:
    """Continuation prompts, as GPT-2 reads them: the same words with a cue where the answer goes."""

    def __init__(self, ranks: Ranks) -> None:
        self.encoding = encoding(ranks, GPT2_PATTERN, GPT2_SPECIALS)
        self.stop = self.end = self.encoding.encode_single_token(END_OF_TEXT)

    def text(self, text: str) -> list[int]:
        """Encode plain text."""
        ids: list[int] = self.encoding.encode_ordinary(text)
        return ids

    def answer(self, text: str) -> list[int]:
        """Encode an answer and the empty line after it."""
        return self._text_before_more(f" {text}\n\n")

    def _text_before_more(self, text: str) -> list[int]:
        """Tokenize line ends as if a question followed, since whether one does is not known yet."""
        return self.text(f"{text}#")[:-1]

    def prompt(self, dialogue: Dialogue, turns: Sequence[Turn], user: str) -> list[int]:
        """Encode what precedes an answer."""
        cue = ANSWER_CUE[dialogue.language]
        pairs = (f"{turn.user}{cue} {turn.assistant}\n\n" for turn in turns)
        return self.text(f"{_opening(dialogue)}{''.join(pairs)}{user}{cue}")

    def sample(self, dialogue: Dialogue) -> Sample:
        """Encode the whole dialogue; answers, empty lines after them and the end are the targets."""
        text = _opening(dialogue)
        answers: set[int] = set()  # byte positions
        for turn in dialogue.turns:
            text += turn.user + ANSWER_CUE[dialogue.language]
            start = len(text.encode())
            text += f" {turn.assistant}\n\n"
            answers.update(range(start, len(text.encode())))
        ids = self._text_before_more(text)
        wanted, at = [], 0
        for token in self.encoding.decode_tokens_bytes(ids):
            wanted.append(at in answers)
            at += len(token)
        return [*ids, self.stop], [*wanted, True]


def _opening(dialogue: Dialogue) -> str:
    """Add the speaker before a lesson; SearchQA states its task itself."""
    return f"{dialogue.system}\n\n" if dialogue.pack == "lessonpack" else ""


@dataclass(frozen=True)
class Mixture:
    """Shares of the kinds of sample, and how hard the SearchQA ones are."""

    copying: float
    lessons: float
    materials: tuple[int, ...]
    further_questions: int


def draw(rng: random.Random, form: ChatFormat | TextFormat, mixture: Mixture) -> Sample:
    """Draw a training sample."""
    language: Language = "zh" if rng.random() < 0.5 else "en"
    kind = rng.random()
    if kind < mixture.copying:
        practice = rng.choice(PRACTICE)
        return repeated(rng, form) if practice == "repeated" else practised(rng, form, language, practice)
    if kind < mixture.copying + mixture.lessons:
        return form.sample(lessonpack.dialogue(rng, Split.TRAIN, language))
    shape = searchqa.Shape(
        materials=rng.choice(mixture.materials),
        further_questions=rng.randint(0, mixture.further_questions),
        absent_share=0.3,
        elsewhere_share=0.5,
        cite_share=0.6,
        same_attribute_share=0.5,
        second_fact_share=rng.choice((0.0, 0.25, 0.5)),
    )
    return form.sample(searchqa.dialogue(rng, Split.TRAIN, language, shape))


def repeated(rng: random.Random, form: ChatFormat | TextFormat) -> Sample:
    """Repeat a random string of tokens, which teaches copying."""
    string = rng.sample(range(form.stop), rng.randint(6, 40))
    times = rng.randint(2, 4)
    return string * times, ([False] * (len(string) + 1) + [True] * (len(string) - 1)) + (
        [True] * (len(string) * (times - 2))
    )


def practised(rng: random.Random, form: ChatFormat | TextFormat, language: Language, practice: str) -> Sample:
    """Make a list and many short questions about it: a key's value, or the number of a value's line."""
    names = Names(rng, Split.TRAIN)
    attributes = rng.sample(ATTRIBUTES, rng.randint(2, 7))
    values = [value_of(attribute, names, language) for attribute in attributes]
    if practice == "values":
        nouns = [attribute.zh if language == "zh" else attribute.en for attribute in attributes]
        keys = [entity_of(names, language) if rng.random() < 0.5 else noun for noun in nouns]
        listed = "".join(f"{key}: {value}\n" for key, value in zip(keys, values, strict=True))
        asked = [*zip((f"{key}: " for key in keys), values, strict=True)]
        missing = [entity_of(names, language) for _ in range(len(keys) // 2)]
        asked += [(f"{key}: ", searchqa.UNKNOWN[language]) for key in missing]
    else:
        texts = [
            statement(attribute, entity_of(names, language), value, names, language)
            for attribute, value in zip(attributes, values, strict=True)
        ]
        listed = "".join(f"{number}. {text}\n" for number, text in enumerate(texts, 1))
        before = searchqa.CITATION[language].partition("{")[0] if rng.random() < 0.7 else ""
        asked = [(f"{value}\n{before}", str(number)) for number, value in enumerate(values, 1)] * 2
    ids = form.text(listed)
    wanted = [False] * len(ids)
    for key, value in rng.sample(asked, len(asked)):
        lead, answer = form.text(key), form.text(f"{value}\n")
        ids += lead + answer
        wanted += [False] * len(lead) + [True] * len(answer)
    return ids, wanted
