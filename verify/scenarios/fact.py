"""Facts that an answer must not contradict, but need not mention."""

from typing import Annotated, Self

import regex
from pydantic import AfterValidator, Field, model_validator

from convert.recipe.check import wrong
from convert.recipe.strict import Strict
from verify.scenarios.wording import digits, fold, sentences

# A question, or a sentence marked as wrong, claims nothing: quizzes are full of false sentences.
_NO_CLAIM = regex.compile(
    r"[?？]|[×✗✘]|[(（]\s*[)）]|判断|错误|不是|并非|\bfalse\b|\bnot\b|n't\b", regex.IGNORECASE
)
# A user's pattern may be slow on some text; one that takes this long is a failed check.
PATTERN_LIMIT_S = 1.0


def _check_pattern(pattern: str) -> str:
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise wrong(
            f"is not a regular expression: {error}",
            "write a regular expression with a group, e.g. (\\d+) planets",
        ) from None
    return pattern


Pattern = Annotated[str, AfterValidator(_check_pattern)]


class Fact(Strict):
    """One fact: a claim that a pattern finds and its true values, or an order of names."""

    name: str = Field(description="A name for reports.", examples=["eight planets"])
    claim: Pattern | None = Field(
        default=None,
        description="Finds what an answer claims; its first group is the value.",
        examples=["(\\d+) planets"],
    )
    values: tuple[str, ...] = Field(
        default=(), description="The values that are right, as text.", examples=[["8", "eight"]]
    )
    order: tuple[str, ...] = Field(
        default=(), description="Names in their order.", examples=[["Mercury", "Venus", "Earth"]]
    )
    cue: Pattern | None = Field(
        default=None, description="Only sentences with this are about the order.", examples=["from the Sun"]
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.claim) == bool(self.order):
            raise wrong("must be either a claim or an order", "write `claim:` with `values:`, or `order:`")
        if self.claim and (not self.values or regex.compile(self.claim).groups < 1):
            raise wrong(
                "a claim needs a group and its right values",
                "write e.g. claim: (\\d+) planets, values: ['8']",
            )
        if self.order and len(self.order) < 3:
            raise wrong("an order of fewer than three names says little", "name at least three")
        return self

    def contradictions(self, answer: str) -> list[str]:
        """Return the passages of an answer that contradict it."""
        try:
            return self._false_claims(answer) if self.claim else self._false_orders(answer)
        except TimeoutError:
            return [f"its pattern takes more than {PATTERN_LIMIT_S:g} s, so the answer was not checked"]

    def _false_claims(self, answer: str) -> list[str]:
        true = {digits(fold(value)) for value in self.values}
        found: list[str] = []
        for sentence in sentences(answer):
            if _NO_CLAIM.search(sentence):
                continue
            matches = regex.finditer(
                str(self.claim), fold(sentence), regex.IGNORECASE, timeout=PATTERN_LIMIT_S
            )
            found += [match[0] for match in matches if match[1] and digits(fold(match[1])) not in true]
        return found

    def _false_orders(self, answer: str) -> list[str]:
        names = [fold(name) for name in self.order]
        found: list[str] = []
        for sentence in sentences(answer):
            text = fold(sentence)
            if self.cue and not regex.search(self.cue, text, regex.IGNORECASE, timeout=PATTERN_LIMIT_S):
                continue
            named = sorted((text.find(name), number) for number, name in enumerate(names) if name in text)
            numbers = [number for _, number in named]
            # Two or three names in a sentence compare; four and more are listed.
            if len(numbers) >= min(4, len(names)) and numbers != sorted(numbers):
                found.append(sentence[:80])
        return found
