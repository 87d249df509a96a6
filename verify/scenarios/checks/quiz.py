"""The check of a multiple-choice question: its options, the right one, and the explanation."""

import regex
from pydantic import Field

from convert.recipe.strict import Strict
from verify.scenarios.checks.registry import Context, Verdict, bad, check, right
from verify.scenarios.wording import fold, has, terms

_OPTION = regex.compile(
    r"(?:^|(?<=\s))(?:[-*+]\s+)?(?:\[[ x]\]\s*)?[(（*]*([A-Ha-h])\s*[.、)）．:：]\**\s*"
    r"(\S[^\n]*?)(?=\s+[(（*]*[A-Ha-h]\s*[.、)）．:：]|$)",
    regex.MULTILINE,
)
_ANSWER = regex.compile(
    r"(?:答案|correct option|answer)\s*(?:应该|应)?\s*(?:is|是|为|选)?\s*[:：]?\s*"
    r"(?:选项|option)?\s*[\[(（【*]*\s*([A-Ha-h])(?![a-z])"
    r"|(?:应选|故选|选择)\s*[(（]?([A-Ha-h])(?![a-z])",
    regex.IGNORECASE,
)
_EXPLANATION = regex.compile(
    r"(?:解析|解释|说明|理由|原因|因为|explanation|because|reason|why)\s*[:：]?\s*(.*)",
    regex.IGNORECASE | regex.DOTALL,
)
MIN_EXPLANATION_TERMS = 4


class Choice(Strict):
    """The requirements for a multiple-choice question."""

    options: int = Field(default=3, ge=2, le=8, description="At least so many options.", examples=[3])
    explained: bool = Field(default=True, description="Whether the answer must be explained.")
    about: tuple[str, ...] = Field(
        default=(), description="It must have one of these words.", examples=[["行星"]]
    )


@check(Choice, example={"options": 3, "about": ["行星"]})
def quiz(context: Context, wanted: Choice) -> Verdict:
    """Check for a multiple-choice question with options, an answer among them, and its explanation."""
    listed = [(found[1].upper(), found[2].strip()) for found in _OPTION.finditer(context.answer)]
    options = _longest_run(listed)
    found = _ANSWER.search(context.answer)
    letter = (found[1] or found[2]).upper() if found else ""
    why = _EXPLANATION.search(context.answer)
    is_about = not wanted.about or any(has(context.answer, word) for word in wanted.about)
    is_explained = why is not None and len(terms(why[1])) >= MIN_EXPLANATION_TERMS
    faults = {
        f"{len(options)} options, {wanted.options} wanted": len(options) < wanted.options,
        "two options say the same": len({fold(text) for _, text in options}) < len(options),
        f"is not about {' or '.join(wanted.about)}": not is_about,
        "names no answer": not letter,
        f"the answer {letter} is none of the options": letter not in [name for name, _ in options],
        "the answer is not explained": wanted.explained and not is_explained,
    }
    fault = next((what for what, is_so in faults.items() if is_so), None)
    return bad(fault) if fault else right(f"{len(options)} options, answer {letter}")


def _longest_run(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the longest run of options that counts from A."""
    best: list[tuple[str, str]] = []
    run: list[tuple[str, str]] = []
    for letter, text in found:
        if letter == "A":
            run = []
        if ord(letter) == ord("A") + len(run):
            run.append((letter, text))
        best = max(best, run, key=len)
    return best
