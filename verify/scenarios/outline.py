"""Headings, sections and lists of a Markdown text, and what models write instead of them."""

from dataclasses import dataclass, field

import regex
from markdown_it import MarkdownIt

from verify.scenarios.wording import fold

_PARSER = MarkdownIt("commonmark").enable("table")
_BAD_HEADING = regex.compile(r"^\s{0,3}#{1,6}[^\s#].*$", regex.MULTILINE)
_SPANS = regex.compile(r"```.*?```|`[^`\n]*`", regex.DOTALL)
# Lines that are headings to a reader: bold ones, 「一、课程目标」, and short ones that end in a colon.
_BOLD = regex.compile(
    r"^\s*(?:[-*+]\s+|\d{1,2}[.、]\s*)?(?:\*\*|__)([^*_\n]{1,40})(?:\*\*|__)\s*[:：]?\s*(.*)$"
)
_COUNTED = regex.compile(
    r"^\s*([一二三四五六七八九十]{1,3}[、.．]|第[一二三四五六七八九十\d]{1,3}(?:节|部分|课|章)|(?:Part|Section|Lesson)\s+\w+\b[.:]?)\s*(.{0,40})$"
)
_COLON = regex.compile(r"^\s*([^\s\d*\-#|][^:：\n。.]{0,29})[:：]\s*(.*)$")
_HEADING = regex.compile(r"^\s{0,3}(#{1,6})\s+(.+?)\s*#*\s*$")


@dataclass
class Section:
    """A heading and the lines under it, smaller headings included."""

    title: str
    level: int
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Return the text under the heading."""
        return "\n".join(self.lines).strip()


@dataclass(frozen=True)
class Markdown:
    """A text as CommonMark reads it, and its faults."""

    headings: tuple[str, ...]
    items: int
    lists: tuple[tuple[int, ...], ...]  # the ordered ones: their numbers as they are written
    faults: tuple[str, ...]


def parse(text: str) -> Markdown:
    """Read a text as CommonMark does."""
    tokens = _PARSER.parse(text)
    headings: list[str] = []
    faults: list[str] = []
    lists: list[list[int]] = []
    done: list[tuple[int, ...]] = []
    items = 0
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            headings.append(tokens[at + 1].content.strip())
        elif token.type == "ordered_list_open":
            lists.append([])
        elif token.type == "ordered_list_close":
            done.append(tuple(lists.pop()))
        elif token.type == "list_item_open":
            items += 1
            if token.info and lists:
                lists[-1].append(int(token.info))
            if tokens[at + 1].type == "list_item_close":
                faults.append("an empty list item")
    faults += ["an empty heading"] * headings.count("")
    if text.count("```") % 2:
        faults.append("a code block that is never closed")
    plain = _SPANS.sub("", text)
    if wrong := _BAD_HEADING.search(plain):
        faults.append(f"no space after #: {wrong[0].strip()[:30]}")
    if any(paragraph.count("**") % 2 for paragraph in plain.split("\n\n")):
        faults.append("** that is never closed")
    return Markdown(tuple(headings), items, tuple(done), tuple(faults))


def sections(text: str) -> list[Section]:
    """Return the sections of a text, by whatever a reader takes for a heading."""
    found: list[Section] = []
    for line in text.split("\n"):
        title, level, rest = _heading(line)
        for section in found:
            if title and level <= section.level:
                section.level = 0  # closed: the next lines belong to other sections
            if section.level:
                section.lines.append(line)
        if title:
            found.append(Section(title, level, [rest] if rest else []))
    return found


def _heading(line: str) -> tuple[str, int, str]:
    """Return the title in a line, its level and the rest of the line; an empty title is none."""
    if found := _HEADING.match(line):
        return found[2].strip("*_ "), len(found[1]), ""
    if found := _COUNTED.match(line):
        return f"{found[1]} {found[2]}".strip(), 7, ""
    if found := _BOLD.match(line):
        return found[1].strip(" :："), 8, found[2]
    if found := _COLON.match(line):
        return found[1].strip(), 9, found[2]
    return "", 0, ""


def find(text: str, names: tuple[str, ...]) -> Section | None:
    """Find the first section whose title contains one of the names."""
    found = (each for each in sections(text) if any(fold(name) in fold(each.title) for name in names))
    return next(found, None)
