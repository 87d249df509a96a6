"""The contents of a pack of dialogues: strict, frozen models, with the checks' own options."""

from __future__ import annotations

import re
from collections.abc import Iterator  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, create_model, model_validator

from convert.recipe.check import wrong
from convert.recipe.strict import Strict
from verify.scenarios.checks import CHECKS
from verify.scenarios.fact import Fact  # noqa: TC001 - pydantic reads the annotations

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
_PLACEHOLDER = re.compile(r"(\{materials\}|\{question\})")
Text = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]


class _Checks(Strict):
    """The checks of an answer, by name."""

    def asked(self) -> Iterator[tuple[str, Any]]:
        """Yield each check that is written here, with its options."""
        for name in self.model_fields_set:
            yield name, getattr(self, name)


if TYPE_CHECKING:
    Checks = _Checks
else:
    Checks = create_model(
        "Checks",
        __base__=_Checks,
        __doc__=_Checks.__doc__,
        **{
            check.name: (
                check.options,
                Field(default=None, description=check.about, examples=[check.example]),
            )
            for check in CHECKS.values()
        },
    )


class Completion(Strict):
    """The style for a model that only continues text, and where its answer ends."""

    cue: Text = Field(description="The line that the answer continues.", examples=["回答:"])
    example: Text | None = Field(
        default=None, description="A worked example to begin with.", examples=["问题: …\n回答: …"]
    )
    stop: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        default=(), description="Generation stops before any of these.", examples=[["\n问题:"]]
    )
    next: tuple[Text, ...] = Field(
        default=(), description="A line that begins so is the next question or example.", examples=[["问题:"]]
    )


class Turn(Strict):
    """One question, the checks of its answer, and a right answer."""

    prompt: Name | None = Field(
        default=None, description="One of the pack's prompts, to be filled in.", examples=["ask"]
    )
    question: Text | None = Field(
        default=None, description="What {question} in the prompt becomes.", examples=["谁设计了这座桥？"]
    )
    user: Text | None = Field(
        default=None, description="The user's words, where no prompt is named.", examples=["请再说一遍"]
    )
    max_tokens: int | None = Field(
        default=None, ge=1, le=8192, description="The most tokens of this answer.", examples=[200]
    )
    checks: Checks = Field(
        default=Checks(), description="What this answer is checked for.", examples=[{"not_empty": True}]
    )
    without: tuple[str, ...] = Field(
        default=(),
        description="Checks that do not apply to this answer.",
        examples=[["no_echo"]],
    )
    reference: Text | None = Field(
        default=None, description="An answer that passes every check.", examples=["1957年"]
    )

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if (self.prompt is None) == (self.user is None):
            raise wrong("must ask exactly once", "write `prompt:` and its `question:`, or `user:`")
        if self.question is not None and self.prompt is None:
            raise wrong(
                "there is a question, but no prompt for it",
                "name the prompt that it goes into, e.g. prompt: ask",
            )
        return self


class Dialogue(Strict):
    """The materials, if any, and the turns of a conversation."""

    name: Name = Field(description="Unique in the pack.", examples=["bridge-length"])
    materials: tuple[Text, ...] = Field(
        default=(),
        description="The texts as they were retrieved.",
        examples=[["第一份资料", "第二份资料"]],
    )
    turns: tuple[Turn, ...] = Field(
        min_length=1, description="The questions, in order.", examples=[[{"user": "你好"}]]
    )


class Pack(Strict):
    """Dialogues of one scenario in one language."""

    scenario: Name = Field(description="The scenario that the scores count for.", examples=["searchqa"])
    language: Literal["zh", "en"] = Field(description="The language of the answers.", examples=["zh"])
    system: Text | None = Field(default=None, description="The system prompt.", examples=["你是一个助理"])
    prompts: dict[Name, Text] = Field(
        default={},
        description="Prompts by name, with {materials} and {question}.",
        examples=[{"ask": "{question}"}],
    )
    max_tokens: int = Field(default=256, ge=1, le=8192, description="The most tokens of an answer.")
    every: Checks = Field(
        default=Checks(), description="What every answer is checked for.", examples=[{"not_empty": True}]
    )
    advisory: tuple[str, ...] = Field(
        default=(),
        description="Checks that count for the score only: a dialogue passes without them.",
        examples=[["simpler"]],
    )
    facts: tuple[Fact, ...] = Field(
        default=(), description="What answers must not contradict.", examples=[[{"name": "eight planets"}]]
    )
    completion: Completion = Field(
        description="How a model that only continues text is asked.", examples=[{"cue": "回答:"}]
    )
    dialogues: tuple[Dialogue, ...] = Field(
        min_length=1,
        description="The dialogues.",
        examples=[[{"name": "first", "turns": [{"user": "你好"}]}]],
    )

    def checks_of(self, turn: Turn) -> dict[str, Any]:
        """Return the checks of one answer with their options; the turn's replace the pack's."""
        asked = {**dict(self.every.asked()), **dict(turn.checks.asked())}
        return {
            name: options
            for name, options in sorted(asked.items())
            if name not in turn.without and options is not False
        }

    def max_tokens_of(self, turn: Turn) -> int:
        """Return the most tokens of one answer."""
        return turn.max_tokens or self.max_tokens

    def instruction(self, turn: Turn) -> str:
        """Return the words of a turn that are neither materials nor question."""
        template = self.prompts[turn.prompt] if turn.prompt else str(turn.user)
        return template.replace("{materials}", "\n").replace("{question}", "\n")

    def user(self, turn: Turn, materials: tuple[str, ...]) -> str:
        """Return the user's words of a turn."""
        if turn.prompt is None:
            return str(turn.user)
        numbered = "\n".join(f"{number}. {text}" for number, text in enumerate(materials, 1))
        parts = {"{materials}": numbered, "{question}": turn.question or ""}
        # Split before filling, so that a placeholder inside a material stays as it is.
        return "".join(parts.get(piece, piece) for piece in _PLACEHOLDER.split(self.prompts[turn.prompt]))
