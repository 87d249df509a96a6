"""Prompts in two styles: messages for a chat model, one text to continue for a completion model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from convert.errors import Failure
from verify.scenarios.pack import Dialogue, Pack
from verify.scenarios.transcript import Step
from verify.scenarios.window import FittedMaterials, NoRoomError, Pair, fit_history, fit_materials

# A template adds markers around each message, and at most a short system prompt.
TOKENS_A_MESSAGE = 8
TOKENS_A_CHAT = 32
TOKENS_A_TEXT = 4  # a begin-of-text token, and tokens that merge differently at a seam


@dataclass(frozen=True)
class Answer:
    """A model's answer."""

    text: str
    end: str | None = None  # "end" (the model's own), "stop" (a stop string), "length", "loop"
    tokens: int | None = None


class Answerer(Protocol):
    """A model that answers; an adapter puts a worker, a server or a test's fake behind it."""

    @property
    def is_chat(self) -> bool:
        """Return whether it has a chat template."""

    @property
    def context_length(self) -> int:
        """Return how many tokens a prompt and its answer may take together."""

    def count_tokens(self, text: str) -> int:
        """Count a text's tokens, without those that a model adds around it."""

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Answer:
        """Answer a chat; the runtime renders the template."""

    def complete(self, prompt: str, max_tokens: int, stop: tuple[str, ...]) -> Answer:
        """Continue a text."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what was done to make it fit."""

    sent: str | tuple[dict[str, str], ...]
    max_tokens: int
    steps: tuple[Step, ...]
    stop: tuple[str, ...] = ()  # a continuation ends before any of these
    likely: str = ""  # what the source answered: no part of the question


def ask(answerer: Answerer, prompt: Prompt) -> Answer:
    """Send one prompt."""
    if isinstance(prompt.sent, str):
        return answerer.complete(prompt.sent, prompt.max_tokens, prompt.stop)
    return answerer.chat(prompt.sent, prompt.max_tokens)


@runtime_checkable
class Crowd(Answerer, Protocol):
    """A model that answers several at once, each on its own seat, which remembers what it has read."""

    @property
    def seats(self) -> int:
        """Return how many."""

    def advance(self, asked: Mapping[int, Prompt]) -> Mapping[int, Answer | Failure]:
        """Take prompts by seat, and go on until at least one seat has its answer, or cannot have one."""


class PromptBuilder:
    """The prompts of one dialogue for one model."""

    def __init__(self, pack: Pack, answerer: Answerer) -> None:
        self._pack = pack
        self._answerer = answerer
        self._counted: dict[str, int] = {}  # a worker takes a while, and trimming counts the same text often

    def materials(self, dialogue: Dialogue, texts: Sequence[str]) -> FittedMaterials:
        """Choose the materials that fit the first turn, with room left for all answers."""
        if not texts:
            return FittedMaterials((), (), ())
        turn, *later = dialogue.turns
        reserved = sum(self._pack.max_tokens_of(each) for each in dialogue.turns)
        reserved += sum(self._count(self._pack.user(each, ())) + TOKENS_A_MESSAGE * 2 for each in later)
        room = self._answerer.context_length - min(reserved, self._answerer.context_length // 2)
        question = " ".join(each.question for each in dialogue.turns if each.question)

        def fits(kept: tuple[str, ...], *, with_example: bool) -> bool:
            return self._size((), self._pack.user(turn, kept), with_example=with_example) <= room

        try:
            return fit_materials(texts, question, lambda kept: fits(kept, with_example=True), may_cut=False)
        except NoRoomError:
            return fit_materials(texts, question, lambda kept: fits(kept, with_example=False))

    def prompt(self, history: Sequence[Pair], user: str, max_tokens: int, *, keeps_first: bool) -> Prompt:
        """Return the prompt for one turn; raise NoRoomError where the window is too small for it."""
        context = self._answerer.context_length
        allowed = min(max_tokens, context // 2)
        steps = []
        if allowed < max_tokens:
            steps.append(Step("answer shortened", f"{allowed} tokens instead of {max_tokens}"))
        room = context - allowed
        with_example = self._size(history, user, with_example=True) <= room
        pairs, trimmed = fit_history(
            history,
            lambda kept: self._size(kept, user, with_example=with_example) <= room,
            keeps_first=keeps_first,
        )
        if not self._answerer.is_chat and self._pack.completion.example and not with_example:
            steps.append(Step("worked example left out", "no room for it"))
        steps += trimmed
        chats = self._answerer.is_chat
        sent = self._messages(pairs, user) if chats else self._text(pairs, user, with_example=with_example)
        return Prompt(sent, allowed, tuple(steps), () if chats else self._pack.completion.stop)

    def _messages(self, history: Sequence[Pair], user: str) -> tuple[dict[str, str], ...]:
        messages = [{"role": "system", "content": self._pack.system}] if self._pack.system else []
        for said, answered in history:
            messages += [{"role": "user", "content": said}, {"role": "assistant", "content": answered}]
        return (*messages, {"role": "user", "content": user})

    def _text(self, history: Sequence[Pair], user: str, *, with_example: bool) -> str:
        """Join example, system prompt and history with empty lines, and end with the cue."""
        style = self._pack.completion
        parts = [style.example] if style.example and with_example else []
        parts += [self._pack.system] if self._pack.system else []
        parts += [f"{said}\n{style.cue} {answered}" for said, answered in history]
        return "\n\n".join([*(part.strip("\n") for part in parts), f"{user}\n{style.cue}"])

    def _size(self, history: Sequence[Pair], user: str, *, with_example: bool) -> int:
        if not self._answerer.is_chat:
            return self._count(self._text(history, user, with_example=with_example)) + TOKENS_A_TEXT
        messages = self._messages(history, user)
        return TOKENS_A_CHAT + sum(self._count(each["content"]) + TOKENS_A_MESSAGE for each in messages)

    def _count(self, text: str) -> int:
        if text not in self._counted:
            self._counted[text] = self._answerer.count_tokens(text)
        return self._counted[text]
