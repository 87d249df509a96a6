"""Text as it is compared: without differences of width, case, spaces, quotes and forms of numbers."""

import re
import unicodedata
from functools import lru_cache
from typing import Literal

Language = Literal["zh", "en"]

_CJK = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
IS_CJK = re.compile(f"[{_CJK}]")
# Runs of white space are one space by then; with \\s+ a long run would cost its square.
_SPACE_BY_CJK = re.compile(rf"(?<=[{_CJK}\u3000-\u303f]) | (?=[{_CJK}\u3000-\u303f])")
_SAME = str.maketrans(
    {"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "‑": "-", "−": "-", "×": "x"}
)
_MARKUP = re.compile(r"\*\*|__|`|(?m:^\s{0,3}#{1,6}\s+)")
_GROUPS = re.compile(r"(?<![\d.])\d{1,3}(?:[, \u00a0\u202f]\d{3})+(?![\d])")
_TERM = re.compile(rf"[{_CJK}]|[^\W\d_{_CJK}]+|\d+(?:\.\d+)?")
_SENTENCE = re.compile(r"[^。！？!?；;\n]+?(?:[。！？!?；;\n]+|\.(?=\s|$)|$)")

_DIGIT = {
    c: n
    for n, chars in enumerate(("零〇", "一", "二两", "三", "四", "五", "六", "七", "八", "九"))
    for c in chars
}
_UNIT = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000}
_CHINESE_NUMBER = re.compile("[零〇一二两三四五六七八九十百千万亿]+")
# Longer runs of digits or numerals are no numbers of anything; Python refuses to write very large ones.
MAX_NUMERAL = 32
# Markers of chat templates, whatever the model.
CHAT_MARKUP = r"<\|[^<>|\n]{1,40}\|>|<｜[^<>\n]{1,40}｜>|</?s>|</?(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
_NUMBER_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty
"""
ENGLISH_NUMBERS = _NUMBER_WORDS.split()
_ENGLISH_NUMBER = re.compile(rf"\b(?:{'|'.join(ENGLISH_NUMBERS)})\b")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?=([万亿千百]?))")


@lru_cache(maxsize=4096)
def fold(text: str) -> str:
    """Remove what does not matter: 「１，０００ 米」 and 「1000米」 become the same."""
    text = unicodedata.normalize("NFKC", _MARKUP.sub("", text)).casefold().translate(_SAME)
    text = _GROUPS.sub(lambda found: re.sub(r"\D", "", found[0]), text)
    return _SPACE_BY_CJK.sub("", " ".join(text.split())).strip()


def has(text: str, wanted: str) -> bool:
    """Return whether the text contains `wanted`, and as whole words or numbers."""
    hay, needle = fold(text), fold(wanted)
    return bool(needle) and (_contains(hay, needle) or _contains(digits(hay), digits(needle)))


def _contains(hay: str, needle: str) -> bool:
    at = hay.find(needle)
    while at >= 0:
        end = at + len(needle)
        if not _continues(hay[max(0, at - 2) : at][::-1], needle[0]) and not _continues(
            hay[end : end + 2], needle[-1]
        ):
            return True
        at = hay.find(needle, at + 1)
    return False


def _continues(outside: str, edge: str) -> bool:
    """Return whether a number or word at the edge goes on outside, read away from it."""
    if not outside:
        return False
    if edge.isdigit():
        return outside[0].isdigit() or (outside[0] in ".," and outside[1:2].isdigit())
    return _is_letter(edge) and _is_letter(outside[0])


def _is_letter(character: str) -> bool:
    return character.isalpha() and not IS_CJK.match(character)


def digits(folded: str) -> str:
    """Turn number words into digits: 「一千九百」 and 「一九〇〇」 become 1900, `eight` becomes 8."""
    text = _CHINESE_NUMBER.sub(_in_digits, folded)
    return _ENGLISH_NUMBER.sub(lambda found: str(ENGLISH_NUMBERS.index(found[0])), text)


def _in_digits(found: re.Match[str]) -> str:
    return str(chinese_number(found[0])) if len(found[0]) <= MAX_NUMERAL else found[0]


def chinese_number(text: str) -> int:
    """Return the value of a Chinese numeral of at most MAX_NUMERAL characters, in words or digit by digit."""
    if len(text) > MAX_NUMERAL:
        raise ValueError(f"{len(text)} characters are no numeral")
    if all(character in _DIGIT for character in text):
        return int("".join(str(_DIGIT[character]) for character in text))
    for great in "亿万":
        before, found, after = text.rpartition(great)
        if found:
            return (chinese_number(before) if before else 1) * _UNIT[great] + (
                chinese_number(after) if after else 0
            )
    total = digit = 0
    for character in text:
        if character in _DIGIT:
            digit = _DIGIT[character]
        else:
            total += (digit or 1) * _UNIT[character]
            digit = 0
    return total + digit


def numbers(text: str) -> set[str]:
    """Find a text's numbers: digits, and Chinese numerals from eleven on; smaller ones are common words."""
    folded = fold(text)
    found: set[str] = set()
    for match in _NUMBER.finditer(folded):
        found.add(_shortest(match[0]))
        if match[1] and len(match[0]) <= MAX_NUMERAL:
            found.add(_shortest(str(float(match[0]) * _UNIT[match[1]])))
    for match in _CHINESE_NUMBER.finditer(folded):
        if 1 < len(match[0]) <= MAX_NUMERAL and (value := chinese_number(match[0])) > 10:
            found.add(str(value))
    return found


def _shortest(number: str) -> str:
    whole, _, part = number.partition(".")
    part = part.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{part}" if part else "")


def terms(text: str) -> list[str]:
    """Return words, numbers and single Chinese characters, in order."""
    return _TERM.findall(fold(text))


def ngrams(text: str) -> set[str]:
    """Return a text's terms for comparing: pairs of Chinese characters, words and numbers."""
    found: set[str] = set()
    before = ""
    for term in terms(text):
        if IS_CJK.match(term):
            if before:
                found.add(before + term)
            before = term
            continue
        before = ""
        if (len(term) > 2 and term not in _EMPTY) or term[0].isdigit():
            found.add(_stem(term))
    return found


_EMPTY_WORDS = """
the and for are was were that this with from its has have had not but you your our their they what which who
when where how why did does can could would should will been being into than then there these those about
also any all each more most other some such only very just because according based
"""
_EMPTY = frozenset(_EMPTY_WORDS.split())


def _stem(word: str) -> str:
    """Make one word of `planets` and `planet`, and attempt no more."""
    return word[:-1] if len(word) > 4 and word.endswith("s") and not word.endswith("ss") else word


def sentences(text: str) -> list[str]:
    """Split a text into sentences and lines."""
    return [found.strip() for found in _SENTENCE.findall(text) if found.strip()]
