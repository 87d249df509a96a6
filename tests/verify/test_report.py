"""The report: whole or not there, the same when read back, and never a place where a model's words act."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from markdown_it import MarkdownIt

from convert.errors import Failure
from tests.verify import reports
from verify.load import LoadResult
from verify.report import SCHEMA, Report, markdown, page, read, words, write, write_json
from verify.scope import Part, Scope

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = (
    "</style></p></details><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7 * 7 }} {% raw %} "
    "\"><svg onload=alert(1)> ' &lt; [a](javascript:alert(1)) `code` | cell\n# head\n| x |\x1b[31m\u202ered"
)
OURS = {
    *("html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "p", "span", "a", "code"),
    *(
        "div",
        "section",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "ul",
        "li",
        "dl",
        "dt",
        "dd",
        "mark",
        "br",
    ),
    *("details", "summary", "form", "label", "select", "option", "input", "button", "noscript", "script"),
    *("svg", "text", "circle", "rect", "path"),
}
VOID = {"meta", "input", "br", "circle", "rect", "path"}


class Elements(HTMLParser):
    """Every element of a page, and whether each was closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path, made = tmp_path / "out" / "report.json", reports.report()
    write_json(path, made)
    assert read(path) == made
    content = json.loads(path.read_text("utf-8"))
    assert content["schema"] == SCHEMA
    assert (content["passed"], [one["passed"] for one in content["artifacts"]]) == (False, [True, False])
    first = content["artifacts"][0]
    assert set(first["checks"][0]) == {"name", "measured", "limit", "passed", "why"}
    assert first["speed"]["decode_tok_s"] == {"median": 25.0, "low": 18.75, "high": 37.5, "count": 5}
    assert set(first["memory"]) >= {"peak_rss_bytes", "peak_anon_bytes"}
    assert set(first["quality"]) >= {"ppl", "ppl_ratio", "kl_mean", "kl_p99", "top1"}
    assert first["scenarios"]["transcripts"][0]["exchanges"][0]["answer"] == "Jupiter"
    assert content["machine"]["cpu"]
    assert [each.name for each in path.parent.iterdir()] == ["report.json"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.md"
    path.mkdir()
    with pytest.raises(Failure, match=rf"^{re.escape(str(path))}: a folder is where a file is needed"):
        write(path, "new")
    path.rmdir()
    write(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Failure, match="the disk is full"):
        write(path, "new")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("report.md", "old")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: "[]", "is no report"),
        (lambda _: "{", "is no report"),
        (lambda content: json.dumps({**content, "schema": SCHEMA + 1}), "newer than this version"),
        (lambda content: json.dumps({**content, "schema": 0}), "is no report"),
        (lambda content: json.dumps({**content, "artifacts": [{}]}), r"artifacts\.0\."),
        (lambda content: json.dumps({**content, "artifacts": ["x"]}), r"artifacts\.0: "),
        (lambda content: json.dumps({**content, "tool": 3}), "tool: "),
        (lambda _: "[" * 100_000, "is no report"),
    ],
)
def test_a_damaged_report_is_said_to_be_one(tmp_path: Path, change: Any, said: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(change(reports.report().as_dict()), "utf-8")
    with pytest.raises(Failure, match=said) as caught:
        read(path)
    assert "\n" not in caught.value.message
    with pytest.raises(Failure, match="no report there"):
        read(tmp_path / "none.json")


def hostile() -> Report:
    made = reports.artifact(HOSTILE, words=HOSTILE, passed=False)
    return reports.report(made, words=HOSTILE, recipe=HOSTILE)


def test_a_strangers_words_are_text_on_the_page() -> None:
    elements = Elements(page.render(hostile()))
    assert {tag for tag, _ in elements.found} <= OURS
    names = {name for _, given in elements.found for name in given}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "srcset", "style"}
    links = [given["href"] for _, given in elements.found if "href" in given]
    assert links
    assert all(str(link).startswith("#") for link in links)
    assert "{{ 7 * 7 }}" in "".join(elements.said)
    assert "<script>alert(1)</script>" in "".join(elements.said)
    assert sum(tag == "script" for tag, _ in elements.found) == 1


def test_the_page_needs_nothing_else_and_may_fetch_nothing() -> None:
    text = page.render(reports.report())
    policy = next(
        given["content"]
        for tag, given in Elements(text).found
        if given.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"https?://|url\(|@import|<link|innerHTML|insertAdjacent|eval\(", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_the_page_has_what_a_reader_looks_for() -> None:
    text = page.render(reports.report())
    elements = Elements(text)
    said = "".join(elements.said)
    for words_ in ("1 of 2 artifacts passed", "Failures", "Size and distance", "some/model", "Some GPU"):
        assert words_ in said
    ids = [given["id"] for _, given in elements.found if "id" in given]
    assert len(ids) == len(set(ids))
    assert {"gguf-Q2_K", "tiny-searchqa-en-planets"} <= set(ids)
    plots = [given["aria-label"] for tag, given in elements.found if tag == "svg" and "role" in given]
    assert plots == [
        "Size and distance from the source",
        "Speed and distance from the source",
        "Memory and length of texts",
        "Throughput of all users",
        "Speed for each user",
    ]
    # Numbers that a browser would not draw.
    assert not re.search(r'="[^"]*(nan|inf)[^"]*"', "".join(re.findall(r"<svg.*?</svg>", text)))


def test_the_page_says_how_much_was_asked_and_what_the_source_costs() -> None:
    whole = reports.report()
    known = whole.artifacts[0]
    source = whole.source.model_copy(update={"speed": known.speed, "memory": known.memory})
    scope = Scope(120.0, 110.0, 95.0, Part(12, 38), Part(4, 8), Part(3, 6))
    text = page.render(whole.model_copy(update={"source": source, "scope": scope}))
    assert "Asked: 12 of 38 dialogues, 4 of 8 windows of text" in text
    assert "the rest was left out" in text
    (row,) = re.findall(r'<tr class="source.*?</tr>', text, re.DOTALL)
    assert ">1.50 GB<" in row
    assert ">25.0<" in row or ">25<" in row
    assert "Asked:" not in page.render(whole)  # of an older report


def test_a_servers_load_is_drawn_with_the_wait_for_the_first_token() -> None:
    levels = [
        LoadResult(
            "chat", users, None, 8, 0, 0, None, 120, 40.0 * users**0.5, 30.0 / users, 0.2 * users, *[None] * 4
        )
        for users in (1, 4, 20)
    ]
    made = reports.artifact("server").model_copy(update={"load": tuple(levels)})
    text = page.render(reports.report(made))
    for title in ("Throughput of all users", "Speed for each user", "Wait for the first token"):
        (drawn,) = re.findall(rf'<svg viewBox[^>]*aria-label="{title}">.*?</svg>', text, re.DOTALL)
        assert drawn.count("<circle") == 3
    assert "server: 0.200 for 1, 0.800 for 4, 4.000 for 20" in text


def test_a_page_without_figures_has_no_plots() -> None:
    bare = reports.artifact("a").model_copy(
        update={"quality": None, "speed": None, "memory": None, "scenarios": None, "size_bytes": None}
    )
    assert 'role="img"' not in page.render(reports.report(bare))
    assert "—" in markdown.render(reports.report(bare))


def test_a_strangers_words_are_text_in_markdown() -> None:
    text = markdown.render(hostile())
    html = MarkdownIt("js-default").enable("table").render(text)
    for tag in ("<script", "<img", "<a ", "<svg", "<em"):
        assert tag not in html
    assert html.count("<h1>") == 1
    assert "\x1b" not in text
    assert "\u202e" not in text
    rows = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("| opens")]
    assert rows == [6]


def test_figures_as_people_read_them() -> None:
    assert [words.size(size) for size in (None, 12, 4_900_000_000, 81_500)] == [
        "—",
        "12 B",
        "4.90 GB",
        "81.5 kB",
    ]
    assert [words.share(share) for share in (None, 1.0, 0.0, 0.941)] == ["—", "100 %", "0 %", "94.1 %"]
    assert [words.number(value) for value in (1.0123, 0.0412, 4e-6, 0, 43210.5)] == [
        *("1.012", "0.041", "4.0e-06"),
        *("0.000", "43,210"),
    ]
    assert words.row(reports.artifact("gguf-Q8_0")) == (
        *("gguf-Q8_0", "1.25 GB", "0.004", "95.0 %", "1.025×", "100 %", "25.0", "1.50 GB", "passed"),
    )
