"""Retrieved materials, cleaned for a prompt: one line of plain text each."""

import html
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser

import regex

from verify.scenarios.wording import CHAT_MARKUP

# Tags that are HTML's own; anything else in angle brackets is the document's text, e.g. List<String>.
_BLOCK_TAGS = """
address article aside blockquote br caption center dd details dialog div dl dt fieldset figcaption figure
footer form h1 h2 h3 h4 h5 h6 header hr legend li main nav ol option p pre section select summary table
tbody tfoot thead title tr ul
"""
_INLINE_TAGS = """
a abbr acronym area audio b base bdi bdo big body button canvas cite code col colgroup data del dfn em embed
font frame frameset head html i iframe img input ins kbd label link map mark math meta meter nobr object
output param picture progress q rp rt ruby s samp small source span strike strong sub sup svg td textarea th
time tt u var video wbr
"""
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_INLINE = frozenset(_INLINE_TAGS.split())
_DROPPED = frozenset(("script", "style", "noscript", "template"))
_MAX_UNESCAPES = 3

# Letters, digits and signs whose full-width forms mean the same; Chinese punctuation （，。？！：；） stays.
_HALF = {
    code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))
}
_HALF |= {ord(sign): ord(sign) - 0xFEE0 for sign in "＃＄％＆＊＋－．／＜＝＞＠＿｜"}
# Forms that fonts, terminals and PDF files leave behind: half-width kana, ligatures, radicals and the like.
_FORMS = regex.compile(r"[\uff61-\uffdc\ufb00-\ufb06\u2e80-\u2fdf\uf900-\ufaff]+")
_NUMBER_SIGNS = ((regex.compile(r"(?<=\d)，(?=\d{3}(?!\d))"), ","), (regex.compile(r"(?<=\d)：(?=\d)"), ":"))

_LINE_ENDS = regex.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Zero-width joiners hold emoji together; any other invisible character can hide or reverse words.
_INVISIBLE = regex.compile(
    r"(?!(?<=\p{Extended_Pictographic}\ufe0f?)\u200d(?=\p{Extended_Pictographic}))[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}--[\n\t]]",
    regex.V1,
)
_SPACES = regex.compile(r"[^\S\n]+")

_MARKUP = regex.compile(rf"{CHAT_MARKUP}|<(?:bos|eos|pad|unk)>", regex.IGNORECASE)
_LEADS = (
    "问题|问|资料|材料|参考资料|回答|答|答案|用户|助手|系统|指令|"
    "question|q|materials?|sources?|documents?|context|answer|a|user|human|assistant|system|instructions?|ai"
)
_LEAD = regex.compile(rf"^[\s>#*\-]*({_LEADS})\s*(?:\d{{1,3}}\s*)?[:：]\s*", regex.IGNORECASE)
_NUMBERED = regex.compile(r"^\s*(\d{1,3})\s*[.．、)）]\s*(?!\d)")
_HEADING = regex.compile(r"^\s*(?:#{1,6}|>{1,3}|-{3,}|={3,}|\*{3,}|`{3,})\s*")


@dataclass(frozen=True)
class Cleaned:
    """A material as it will be sent, and the steps that changed it."""

    text: str
    steps: tuple[str, ...]


def clean(text: str) -> Cleaned:
    """Turn whatever was retrieved into one line of plain text, always in the same way."""
    steps: list[str] = []
    for name, step in _STEPS:
        done = step(text)
        if done != text:
            steps.append(name)
        text = done
    return Cleaned(text, tuple(steps))


def _without_html(text: str) -> str:
    if "<" in text:
        reader = _Reader()
        reader.feed(text)
        reader.close()
        text = "".join(reader.parts)
    return _settled(text, html.unescape, most=_MAX_UNESCAPES)


def _settled(text: str, change: Callable[[str], str], most: int = sys.maxsize) -> str:
    """Apply a change until it changes nothing, or often enough."""
    for _ in range(most):
        before, text = text, change(text)
        if before == text:
            break
    return text


class _Reader(HTMLParser):
    """A parser that keeps what a reader of the page would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's interface
        if tag in _DROPPED:
            self._hidden += 1
        elif tag in _BLOCKS:
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")
        elif tag not in _INLINE and not self._hidden:
            self.parts.append(self.get_starttag_text() or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _DROPPED:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _DROPPED:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _BLOCKS:
            self.parts.append("\n")
        elif tag not in _INLINE and not self._hidden:
            self.parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def _with_usual_width(text: str) -> str:
    text = text.translate(_HALF)
    text = _FORMS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    for sign, plain in _NUMBER_SIGNS:
        text = sign.sub(plain, text)
    return unicodedata.normalize("NFC", text)


def _without_controls(text: str) -> str:
    return str(_SPACES.sub(" ", _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))))


def _without_markup(text: str) -> str:
    return _settled(text, lambda text: _MARKUP.sub(" ", text))


def _with_harmless_lines(text: str) -> str:
    """Remove from each line a beginning that looks like the prompt's own."""
    return "\n".join(_harmless(line) for line in text.split("\n"))


def _harmless(line: str) -> str:
    def change(line: str) -> str:
        return str(_NUMBERED.sub(r"(\1) ", _LEAD.sub(r"(\1) ", _HEADING.sub("", line))))

    return _settled(line, change)


def _on_one_line(text: str) -> str:
    """Join the lines; remove markup and line beginnings that only now appear, too."""
    return _settled(text, lambda text: " ".join(_harmless(_without_markup(" ".join(text.split()))).split()))


_STEPS = (
    ("HTML stripped", _without_html),
    ("width normalized", _with_usual_width),
    ("control characters removed", _without_controls),
    ("chat markup removed", _without_markup),
    ("line starts neutralized", _with_harmless_lines),
    ("lines joined", _on_one_line),
)
