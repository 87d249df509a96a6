"""Checks of content: the right answer, one from the materials, or an honest "I don't know"."""

from typing import Self

import regex
from pydantic import Field, model_validator

from convert.recipe.check import wrong
from convert.recipe.strict import Strict
from verify.scenarios.checks.citation import CITATIONS
from verify.scenarios.checks.registry import Context, Verdict, bad, check, right
from verify.scenarios.wording import Language, fold, has, ngrams, numbers, sentences

# "I don't know" in other words, on folded text.
REFUSALS: dict[Language, str] = {
    "zh": r"不知道|不清楚|不确定|不得而知|不了解|不详|未知|没提|并未|并没有|都没有|均没有|均未|[找查得]不到|"
    r"未(?:明确|直接)?(?:提及|提到|说明|给出|涉及|记载|包含)|"
    r"没有.{0,20}(?:信息|资料|内容|记录|数据|线索)|"
    r"没有(?:明确|直接|具体)?(?:被)?(?:提到|提及|提供|说明|给出|包含|涉及|记载|写明|介绍|相关|答案|关于|找到)|"
    r"无法(?:从.{0,12})?(?:直接|明确|准确)?(?:得知|确定|回答|得出|找到|获得|获知|判断|得到|知道)",
    "en": r"(?:do not|don't|does not|doesn't|did not|didn't|can ?not|can't|could not|couldn't) (?:\w+ly )?"
    r"(?:know|say|tell|mention|state|specify|provide|contain|include|give|answer|determine|find|list|cover|"
    r"reveal|indicate|name|be (?:found|determined|answered|known))|"
    r"(?:not|isn't|aren't) (?:\w+ly )?(?:sure|certain|known|mentioned|stated|specified|provided|given|found|"
    r"included|available|clear|covered|listed|in the (?:materials?|text|documents?))|"
    r"no idea|unknown|unclear|unable to|unanswerable|none of (?:the|these)|nothing (?:in|about)|"
    r"no (?:\w+ )?(?:information|mention|answer|data|details?)|neither (?:of the )?material",
}
_GUESSES: dict[Language, str] = {
    "zh": r"答案(?:应该|可能|大概)?是|应该是|可能是|大概是|大约是|估计|猜测|推测|我认为|我觉得|据我所知|"
    r"一般来说|通常(?:是|为)",
    "en": r"\b(?:the answer (?:is|might be|could be)|it (?:is|was) (?:probably|likely|about)|probably|"
    r"my guess|i (?:think|guess|believe|suppose)|as far as i know|approximately|roughly|"
    r"most likely|typically|usually)\b",
}
# The shares are low: a right answer in other words must pass, and one made up has hardly anything in common.
MIN_SHARED = 0.34
MIN_GRAMS = 6
_QUOTED = regex.compile(r"《([^《》]{1,40})》|“([^“”]{2,40})”|\"([^\"\n]{2,40})\"|「([^「」]{2,40})」")
_NAME = regex.compile(r"(?<![.!?:：\n*]\s)(?<!^)(?<![\w*\"“])\p{Lu}[\p{L}'’-]+", regex.MULTILINE)
_ENDING = regex.compile(r"['’]s?$|(?<=\w{4})s$")  # the bridge's, Sundays
_MARKER = regex.compile(r"^\s*(?:[-*+]\s+)?\(?\d{1,2}[.)、．:]\s*", regex.MULTILINE)


class Says(Strict):
    """The words that an answer must have, and must not have."""

    any: tuple[str, ...] = Field(default=(), description="It must have one of these.", examples=[["1957年"]])
    all: tuple[str, ...] = Field(
        default=(), description="It must have each of these; write | between forms.", examples=[["八|8"]]
    )
    none: tuple[str, ...] = Field(
        default=(), description="It must have none of these.", examples=[["1955年"]]
    )

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if not (self.any or self.all or self.none):
            raise wrong("is empty", "write e.g. answer: {any: [1957年]}")
        if blank := [word for word in (*self.any, *self.all, *self.none) if not fold(word)]:
            raise wrong(f"{blank[0]!r} is not a word to look for", "write a word, a name or a number")
        return self


@check(Says, example={"any": ["1957年", "1957"], "none": ["1955年"]})
def answer(context: Context, wanted: Says) -> Verdict:
    """Check that the expected answer is there, and no decoy."""
    if decoys := [word for word in wanted.none if has(context.answer, word)]:
        return bad(f"says {decoys[0]}")
    missing = [forms for forms in wanted.all if not any(has(context.answer, w) for w in forms.split("|"))]
    if missing:
        return bad(f"does not say {', '.join(missing)}")
    found = [word for word in wanted.any if has(context.answer, word)]
    if wanted.any and not found:
        return bad(f"does not say {' or '.join(wanted.any)}")
    return right(f"says {found[0]}" if found else "")


class Unknown(Strict):
    """Decoys for an answer that should admit not to know."""

    none: tuple[str, ...] = Field(
        default=(), description="Decoys that it must not say.", examples=[["1955年"]]
    )


@check(Unknown, example={"none": ["1955年"]})
def unknown(context: Context, wanted: Unknown) -> Verdict:
    """Check that the answer admits that the materials do not say, and does not answer anyway."""
    if not refuses(context.answer, context.language):
        return bad("does not say that it does not know")
    if decoys := [word for word in wanted.none if has(context.answer, word)]:
        return bad(f"says that it does not know, but also says {decoys[0]}")
    if guess := regex.search(_GUESSES[context.language], fold(context.answer)):
        return bad(f"says that it does not know, but guesses: {guess[0]}")
    if made_up := sorted(numbers(_without_references(context.answer)) - _known_numbers(context)):
        return bad(f"says that it does not know, but also says {made_up[0]}, which is nowhere")
    return right()


def refuses(text: str, language: Language) -> bool:
    """Return whether the text says somewhere that the answer is not known."""
    return regex.search(REFUSALS[language], fold(text)) is not None


class Grounded(Strict):
    """Words that an answer may use although no material has them."""

    allow: tuple[str, ...] = Field(
        default=(), description="Words that follow from them.", examples=[["38年"]]
    )


@check(Grounded, example={})
def grounded(context: Context, wanted: Grounded) -> Verdict:
    """Check that numbers, names and quotes come from the materials, and enough of the other words."""
    text = _without_references(context.answer)
    source = "\n".join([*context.materials, context.question, *wanted.allow])
    if made_up := sorted(numbers(text) - numbers(source)):
        return bad(f"{made_up[0]} is in no material")
    for span in _spans(text):
        if fold(span) not in fold(source):
            return bad(f"{span} is in no material")
    claims = [each for each in sentences(text) if not refuses(each, context.language)]
    grams = ngrams(" ".join(claims)) - ngrams(context.question)
    known = grams & ngrams(source)
    if len(grams) >= MIN_GRAMS and len(known) < MIN_SHARED * len(grams):
        return bad(f"only {len(known)} of {len(grams)} of its terms are in the materials")
    return right()


def _spans(text: str) -> list[str]:
    """Find quoted words, and names in Latin letters that no sentence begins with."""
    quoted = [next(filter(None, found)) for found in _QUOTED.findall(text)]
    names = [found[0] for found in _NAME.finditer(text) if found[0] not in _CAPITALS]
    return [*quoted, *(_ENDING.sub("", name) for name in names)]


_COMMON_CAPITALS = "I I'm I'll AI Material Materials Document Source Based According Answer Yes No OK"
_CAPITALS = frozenset(_COMMON_CAPITALS.split())


def _known_numbers(context: Context) -> set[str]:
    counts = {str(number) for number in range(1, len(context.materials) + 1)}  # "none of the 3 materials"
    return counts | numbers("\n".join([*context.materials, context.question, context.user]))


def _without_references(text: str) -> str:
    """Remove references: citations, and numbers of list items."""
    return str(_MARKER.sub("", CITATIONS.sub(" ", text)))
