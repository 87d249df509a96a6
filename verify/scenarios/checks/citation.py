"""Checks of sources: a cited material exists, and has the answer."""

import regex
from pydantic import Field

from convert.recipe.strict import Strict
from verify.scenarios.checks.registry import Context, Verdict, bad, check, right
from verify.scenarios.wording import ENGLISH_NUMBERS, chinese_number, fold

_ZH_NUMBER = r"(?:\d{1,2}|[一二两三四五六七八九十]{1,3})"
_ZH_AND = r"\s*(?:、|和|与|及|以及|,|，)\s*"
_EN_WORDS = ENGLISH_NUMBERS[1:11]
_EN_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_EN_ORDINAL = f"(?:{'|'.join(_EN_ORDINALS)})"
_EN_NUMBER = rf"(?:\d{{1,2}}|{'|'.join(_EN_WORDS)})"
_ZH_NOUN = r"(?:参考)?(?:资料|材料|文档|文档片段|文件|来源|片段|文献)"
_EN_NOUN = r"(?:materials?|documents?|sources?|passages?|texts?|docs?|references?|items?)"

# Every way to refer to a material; the groups have its number or numbers.
CITATIONS = regex.compile(
    rf"{_ZH_NOUN}\s*(?:编号|序号)?\s*(?:第|#|№|：|:|\[|【|（|\()?\s*(?P<n>{_ZH_NUMBER})(?!\d|[年月日米人元个万千百％%般直些样起定分旦共方])(?:{_ZH_AND}(?:{_ZH_NOUN})?\s*(?P<n>{_ZH_NUMBER})(?![\d年月日米人元个]))*"
    rf"|第\s*(?P<n>{_ZH_NUMBER})\s*(?:个|份|条|篇|段|项|则|号)?\s*{_ZH_NOUN}"
    rf"|第\s*(?P<n>{_ZH_NUMBER})\s*(?:个|份|条|篇|段|则|号)(?=[。，,.\s]|$|的|中)"
    rf"|\b{_EN_NOUN}\s*(?:number|no\.?|\#)?\s*[\[(]?(?P<n>{_EN_NUMBER})\b(?:\s*(?:,|、|and|&)\s*(?:{_EN_NOUN}\s*)?(?:\#)?(?P<n>{_EN_NUMBER})\b)*"
    rf"|\b(?P<o>{_EN_ORDINAL})(?:\s*(?:,|、|and|&)\s*(?:the\s+)?(?P<o>{_EN_ORDINAL}))*\s+(?:\w+\s+)?{_EN_NOUN}\b"
    rf"|\b(?P<n>\d{{1,2}})(?:st|nd|rd|th)\s+{_EN_NOUN}\b"
    r"|[\[【［](?P<n>\d{1,2})[\]】］]",
    regex.IGNORECASE,
)
_BARE = regex.compile(
    rf"^\W*(?:the\s+)?(?:第\s*)?(?P<n>{_ZH_NUMBER}|{_EN_NUMBER})\s*(?:个|份|条|号)?\W*$", regex.IGNORECASE
)
_CLAUSE = regex.compile(r"(?:(?!而是|但是|\bbut\b)[^。！？!?；;，,\n])+", regex.IGNORECASE)
_LISTED = regex.compile(
    rf"(?<=\d|[一二三四五六七八九十])\s*[,，]\s*(?={_ZH_NUMBER}(?!\d)|{_ZH_NOUN}|{_EN_NOUN}|\band\b)"
)
_DENIED = regex.compile(
    r"不是|并非|而非|没有|未|无关|不包含|除了|"
    r"n't\b|\b(?:not|no|neither|nor|unlike|rather than|instead of)\b",
    regex.IGNORECASE,
)
_DENIED_AFTER = regex.compile(
    r"\s*(?:中|里|都|均|则|也|并)*(?:没有|没|未|无关|不)|\s*(?:do|does|did)(?: not|n't)\b|\s*says? nothing",
    regex.IGNORECASE,
)
# A quote of this many characters is no accident.
MIN_QUOTE_CHARS = {"zh": 10, "en": 24}


class Cites(Strict):
    """The materials that are right to cite."""

    right: tuple[int, ...] = Field(
        default=(), description="Numbers of the materials that have the answer, from 1.", examples=[[2]]
    )
    needed: bool = Field(default=False, description="Whether an answer without a source fails.")


@check(Cites, example={"right": [2], "needed": True})
def cites(context: Context, wanted: Cites) -> Verdict:
    """Check that a cited source exists and is the right one."""
    shown = {context.shown_as[number] for number in wanted.right if number in context.shown_as}
    gone = [number for number in wanted.right if number not in context.shown_as]
    named = cited(context.answer)
    if wanted.needed and not named and (found := _BARE.match(context.answer.casefold())):
        named = {_value(found["n"])}
    if strangers := sorted(number for number in named if not 0 < number <= len(context.materials)):
        return bad(f"cites material {strangers[0]} of {len(context.materials)}")
    if wrong := sorted(named - shown):
        where = f"not {', '.join(map(str, sorted(shown)))}" if shown else "and none has the answer"
        return bad(f"cites material {wrong[0]}, {where}")
    if named or not wanted.needed:
        return right(f"cites material {', '.join(map(str, sorted(named)))}" if named else "cites none")
    quoted = _quoted(context)
    if quoted and quoted <= shown:
        return right(f"quotes material {', '.join(map(str, sorted(quoted)))}")
    return bad(f"material {gone[0]} did not fit the window" if gone and not shown else "names no material")


def cited(text: str) -> set[int]:
    """Return the numbers of the materials that an answer cites; "not material 1" cites none."""
    found: set[int] = set()
    # Letters that only match in another case would be looked up in vain: the long s of "ſeven".
    # A comma in a list of numbers ends no clause.
    for clause in _CLAUSE.findall(_LISTED.sub("、", text.casefold())):
        for match in CITATIONS.finditer(clause):
            if _DENIED.search(clause[: match.start()]) or _DENIED_AFTER.match(clause, match.end()):
                continue
            found |= {_value(number) for number in match.captures("n")}
            found |= {_EN_ORDINALS.index(word) + 1 for word in match.captures("o")}
    return found


def _value(number: str) -> int:
    if number.isdigit():
        return int(number)
    return _EN_WORDS.index(number) + 1 if number.isascii() else chinese_number(number)


def _quoted(context: Context) -> set[int]:
    """Find the materials that alone have a passage of the answer word for word."""
    answer = fold(context.answer)
    found: set[int] = set()
    texts = [fold(text) for text in context.materials]
    size = MIN_QUOTE_CHARS[context.language]
    for at in range(len(answer) - size + 1):
        piece = answer[at : at + size]
        holders = [number for number, text in enumerate(texts, 1) if piece in text]
        if len(holders) == 1:
            found.add(holders[0])
    return found
