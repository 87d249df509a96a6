"""Read our pages as GitHub does: what mkdocs calls for each page of the site."""

from __future__ import annotations

import re

from tests.docs.fence import FENCE

REPOSITORY = "https://github.com/modelwright/modelwright/blob/main/"
_OUTSIDE = re.compile(r"\]\(\.\./([^)\s]+)\)")
_MARK = re.compile(r"<!-- /?part[^>]*-->")
_BLOCK = re.compile(r"(- |\d+\. |\|)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Point links that leave docs/ at the repository, and set lists and tables apart from what precedes."""
    prose, start = [], 0
    for fence in FENCE.finditer(markdown):
        prose += [_page(markdown[start : fence.start()]), fence[0]]
        start = fence.end()
    return "".join([*prose, _page(markdown[start:])])


def _page(text: str) -> str:
    lines: list[str] = []
    for line in _OUTSIDE.sub(rf"]({REPOSITORY}\1)", _MARK.sub("", text)).split("\n"):
        begins = _BLOCK.match(line)
        if begins and lines and lines[-1] and not lines[-1].startswith((begins[1], "  ")):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)
