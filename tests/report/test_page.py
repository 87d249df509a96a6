"""The page in a real Chromium: nothing fails or is fetched, and a reader sees what the report says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.report.chromium import Chromium, find_chromium
from tests.verify import reports
from tests.verify.test_report import hostile
from verify.report import page, words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from verify.report import Report

PROGRAM = find_chromium()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed"),
    pytest.mark.xdist_group("chromium"),
]
LARGEST_BYTES, SLOWEST_MS = 1_000_000, 1000
VISIBLE = "[...document.querySelectorAll('#rows tbody tr')].filter(row => !row.hidden)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    """Start one browser for the tests of a file."""
    with Chromium(PROGRAM or "") as found:
        yield found


@pytest.fixture(scope="module")
def made() -> Report:
    """Make a report of six artifacts and sixty dialogues."""
    return reports.large()


@pytest.fixture
def opened(browser: Chromium, made: Report, tmp_path: Path) -> Iterator[Chromium]:
    """Open its page as a reader does; afterwards nothing has failed, and nothing else was fetched."""
    path = tmp_path / "report.html"
    path.write_text(page.render(made), "utf-8")
    browser.errors.clear()
    browser.requests.clear()
    browser.look()
    browser.open(path)
    yield browser
    assert browser.errors == []
    assert set(browser.requests) == {path.as_uri()}


def column(browser: Chromium, title: str) -> list[str]:
    """Read what is shown under a heading, row by row."""
    found: list[str] = browser.run(
        f"(() => {{ const at = [...document.querySelectorAll('#rows th')].findIndex("
        f"head => head.dataset.sort === {title!r}); "
        f"return {VISIBLE}.map(row => row.cells[at].firstChild?.textContent.trim() ?? ''); }})()"
    )
    return found


def choose(browser: Chromium, name: str, value: str) -> None:
    """Set a control as a reader does."""
    browser.run(
        f"(() => {{ const one = document.querySelector('[name={name}]'); "
        f"if (one.type === 'checkbox') one.checked = {str(bool(value)).lower()}; else one.value = {value!r}; "
        f"one.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    )


def names(browser: Chromium) -> list[str]:
    """List the artifacts in the order of the rows."""
    found: list[str] = browser.run(f"{VISIBLE}.map(row => row.cells[0].textContent.trim())")
    return found


def test_figures_are_the_reports(opened: Chromium, made: Report) -> None:
    for title in words.HEAD[1:-1]:
        place = words.HEAD.index(title)
        assert column(opened, title)[1:] == [words.row(each)[place] for each in made.artifacts]
    assert names(opened)[0] == "source"
    assert column(opened, "size")[0] == words.size(made.source.size_bytes)


def test_sorting_sorts_and_the_source_stays_first(opened: Chromium, made: Report) -> None:
    def click(title: str) -> None:
        opened.run(f"document.querySelector('#rows th[data-sort={title}]').click()")

    by_size = [each.name for each in sorted(made.artifacts, key=lambda each: each.size_bytes or 0)]
    click("size")
    assert names(opened) == ["source", *by_size]
    click("size")
    assert names(opened) == ["source", *reversed(by_size)]
    assert opened.run("location.hash") == "#sort=-size"
    click("size")
    assert names(opened) == ["source", *(each.name for each in made.artifacts)]


def test_filters_filter_and_the_address_keeps_them(opened: Chromium, made: Report) -> None:
    choose(opened, "verdict", "failed")
    assert names(opened) == ["source", "gguf-Q2_K"]
    choose(opened, "scenario", "lessonpack")
    scores = [each for each in made.artifacts[-1].scenarios.scores if each.scenario == "lessonpack"]  # type: ignore[union-attr]
    share = sum(each.smoke * each.dialogues for each in scores) / sum(each.dialogues for each in scores)
    assert column(opened, "smoke")[1] == f"{100 * share:.1f} %".replace(".0 %", " %")
    shown = opened.run("[...document.querySelectorAll('.dialogue')].filter(one => !one.hidden).length")
    assert shown == 30
    assert opened.run("location.hash") == "#verdict=failed&scenario=lessonpack"
    opened.open_again()
    assert names(opened) == ["source", "gguf-Q2_K"]


def test_dialogues_show_only_where_they_differ(opened: Chromium) -> None:
    counted = "[...document.querySelectorAll('.dialogue')].filter(one => !one.hidden).length"
    everything = opened.run(counted)
    choose(opened, "differ", "1")
    differing = opened.run(counted)
    assert 0 < differing <= 40 < everything == 60
    assert opened.run("document.querySelectorAll('.dialogue:not([hidden]) mark').length") > differing
    choose(opened, "lost", "1")
    assert 0 < opened.run(counted) < differing
    # A mark holds what the source does not say.
    assert "Saturn" in opened.run(
        "[...document.querySelectorAll('mark')].map(one => one.textContent).join(' ')"
    )


def test_a_click_goes_to_the_artifact(opened: Chromium) -> None:
    opened.run("document.querySelector('#plots ~ .plots svg a').dispatchEvent("
               "new MouseEvent('click', {bubbles: true, cancelable: true}))")  # fmt: skip
    assert opened.run("location.hash").startswith("#at=gguf-")
    place = opened.run(
        "document.getElementById(new URLSearchParams(location.hash.slice(1)).get('at'))"
        ".getBoundingClientRect().top"
    )
    assert abs(place) < 5


@pytest.mark.parametrize("width", [1200, 390])
def test_nothing_is_wider_than_the_window(opened: Chromium, width: int) -> None:
    opened.look(width=width)
    opened.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert opened.run("document.documentElement.scrollWidth") <= width


def test_names_in_plots_do_not_lie_on_each_other(opened: Chromium) -> None:
    overlaps = opened.run(
        """[...document.querySelectorAll('.plots svg')].flatMap(plot => {
             const names = [...plot.querySelectorAll('text.name')];
             const boxes = names.map(one => one.getBBox());
             return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b =>
               a.x + 1 < b.x + b.width && b.x + 1 < a.x + a.width
               && a.y + 3 < b.y + b.height && b.y + 3 < a.y + a.height));
           }).length"""
    )
    assert overlaps == 0
    assert opened.run("document.querySelectorAll('.plots text.name').length") >= 30


def test_light_dark_and_paper_can_be_read(opened: Chromium) -> None:
    light = opened.run("getComputedStyle(document.body).backgroundColor")
    opened.look(dark=True)
    dark = opened.run("getComputedStyle(document.body).backgroundColor")
    opened.look(dark=True, media="print")
    paper = opened.run("getComputedStyle(document.body).backgroundColor")
    assert (light, paper) == ("rgb(246, 247, 249)", "rgb(255, 255, 255)")
    assert dark not in (light, paper)
    assert opened.run("getComputedStyle(document.querySelector('.controls')).display") == "none"
    pdf: dict[str, Any] = opened.call("Page.printToPDF")
    assert len(pdf["data"]) > 10_000


def test_it_is_small_and_opens_at_once(opened: Chromium, made: Report) -> None:
    assert len(page.render(made).encode()) < LARGEST_BYTES
    took = min(_opening_ms(opened) for _ in range(3))  # other programs may hold a processor once
    assert took < SLOWEST_MS


def _opening_ms(browser: Chromium) -> float:
    browser.open_again()
    found: float = browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
    return found


def test_without_a_script_everything_is_there(opened: Chromium, made: Report) -> None:
    opened.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        opened.open_again()
    finally:
        opened.call("Emulation.setScriptExecutionDisabled", value=False)
    root = opened.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
    count = len(opened.call("DOM.querySelectorAll", nodeId=root, selector="#rows tbody tr")["nodeIds"])
    assert count == 1 + len(made.artifacts)
    hidden = opened.call("DOM.querySelectorAll", nodeId=root, selector=".script:not([hidden])")["nodeIds"]
    assert hidden == []


def test_a_strangers_words_do_nothing(browser: Chromium, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(page.render(hostile()), "utf-8")
    browser.errors.clear()
    browser.open(path)
    assert browser.errors == []
    assert browser.run("document.querySelectorAll('img, iframe, script').length") == 1
    assert browser.run("document.querySelectorAll('[onload], [onerror]').length") == 0
