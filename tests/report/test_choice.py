"""The page's own arithmetic in a real Chromium: for any machine and need it says what `pick` says."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from convert.cli import app
from convert.pick import commands
from convert.pick.candidate import gather
from convert.pick.machine import overridden
from convert.pick.need import Need
from convert.pick.page import choice
from convert.pick.page_data import key
from convert.pick.profile import find_machine
from convert.pick.rank import rank
from convert.pick.sentence import heading, rate, reason, sentence
from tests.report.chromium import Chromium, find_chromium
from tests.report.test_page import choose, names
from tests.verify.reports import artifact, report
from verify.report import page, words, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from convert.pick.candidate import Candidate

PROGRAM = find_chromium()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed"),
    pytest.mark.xdist_group("chromium"),
]
# A cache of few heads, of many, of windows, and convolutions that keep a state.
RECIPES = ("qwen2.5-0.5b", "qwen", "gemma-3-4b", "lfm2-1.2b")
NEEDS = [
    Need(1024),
    Need(8192, 20, "zh", goal="speed"),
    Need(32768, 3, "fr", goal="size"),
    Need(32768, 1, "zh"),
    Need(min_speed=40.0),
    Need(131072, 200),
    Need(max_kl=0.02),
]
READ = """(asked => JSON.stringify(asked.map(({machine, need, memory}) => {
  const found = test.chooseOn(machine, need, memory);
  return {
    heading: test.headingOf(found), sentence: test.sentenceOf(found), reason: test.reasonOf(found),
    commands: test.commandsOf(found),
    fits: found.fits.map(each => [each.candidate.key, each.name, test.totalOf(each.memory),
      each.speed.user, each.speed.total, each.sequences, each.replicas, each.whyNot]),
  };
})))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    """Start one browser for the tests of a file."""
    with Chromium(PROGRAM or "") as found:
        yield found


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Candidate, ...]:
    """Gather four models' artifacts, and what a report measured of a fifth."""
    path = tmp_path_factory.mktemp("reported") / "report.json"
    write_json(
        path, report(artifact("gguf-Q8_0"), artifact("gguf-Q4_K_M", passed=False), recipe="qwen2.5-7b")
    )
    return gather((*RECIPES, str(path)), path.parent)


def expected(candidates: tuple[Candidate, ...], name: str, need: Need, memory: float) -> dict[str, Any]:
    """Ask `pick`."""
    machine = find_machine(name)
    if memory:
        machine = overridden(machine, {"vram" if machine.gpus else "ram": f"{memory}GB"})
    found = rank(candidates, machine, need)
    best = found.answer
    typed = [commands.build(best.candidate), commands.run(best, need)] if best else []
    return {
        "heading": heading(found),
        "sentence": sentence(found),
        "reason": reason(found, best) if best else "",
        "commands": [each for each in typed if each],
        "fits": [
            [key(each.candidate), each.runtime_name, each.memory.total_bytes, each.speed.user_tok_s,
             each.speed.total_tok_s, each.sequences, each.replicas, each.why_not]
            for each in found.fits
        ],
    }  # fmt: skip


def test_the_page_says_what_pick_says(
    browser: Chromium, candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    made = choice(candidates, find_machine("laptop-8gb"), Need())
    opened = replace(
        made,
        script=f"{made.script}\nglobalThis.test = "
        "{chooseOn, headingOf, sentenceOf, reasonOf, commandsOf, totalOf};",
    )
    path = tmp_path / "pick.html"
    path.write_text(page.render(choice=opened), "utf-8")
    browser.look()
    browser.open(path)
    assert browser.errors == []
    asked = [
        {"machine": name, "need": vars(need), "memory": 13.5 * (at % 2)}
        for at, (name, need) in enumerate(product(made.machines, NEEDS))
    ]
    found = json.loads(browser.run(f"{READ}({json.dumps(asked)})"))
    for each, said in zip(asked, found, strict=True):
        wanted = expected(candidates, each["machine"], Need(**each["need"]), each["memory"])  # type: ignore[arg-type]
        figures = [value for fit in wanted["fits"] for value in fit[2:5]]
        assert [value for fit in said["fits"] for value in fit[2:5]] == pytest.approx(figures, rel=1e-12)
        for fits in (said["fits"], wanted["fits"]):
            fits[:] = [[*fit[:2], *fit[5:]] for fit in fits]
        assert said == wanted, each


def test_controls_change_the_answer_the_rows_and_the_address(
    browser: Chromium, candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    path = tmp_path / "pick.html"
    path.write_text(page.render(choice=choice(candidates, find_machine("laptop-8gb"), Need())), "utf-8")
    browser.errors.clear()
    browser.open(path)
    before = browser.run("document.querySelector('#answer').textContent")
    assert before == sentence(rank(candidates, find_machine("laptop-8gb"), Need()))
    choose(browser, "on", "rtx-4090")
    choose(browser, "context", "32768")
    wanted = rank(candidates, find_machine("rtx-4090"), Need(32768))
    assert browser.run("document.querySelector('#answer').textContent") == sentence(wanted) != before
    assert wanted.answer
    assert browser.run("document.querySelector('#rows .chosen').dataset.key") == key(wanted.answer.candidate)
    assert browser.run("location.hash") == "#on=rtx-4090&context=32768"
    shown = browser.run("[...document.querySelectorAll('#commands code')].map(one => one.textContent)")
    assert commands.run(wanted.answer, Need(32768)) in shown
    out = {key(each.candidate): each.why_not for each in wanted.fits if each.why_not}
    grayed = browser.run(
        "Object.fromEntries([...document.querySelectorAll('#rows .out')].map(row => "
        "[row.dataset.key, row.querySelector('.here').textContent]))"
    )
    assert {name: grayed.get(name) for name in out if name in grayed} == {
        name: why for name, why in out.items() if name in grayed
    }
    assert "opens in no runtime for this machine" in grayed.values()
    browser.open_again()
    assert browser.run("document.querySelector('#answer').textContent") == sentence(wanted)
    button = "document.querySelector('#commands .copy')"
    browser.run(f"{button}.click()")
    browser.run("new Promise(done => setTimeout(done, 100))")
    assert browser.run(f"{button}.textContent") in ("copied", "selected")
    assert browser.errors == []


def test_plots_follow_the_controls(
    browser: Chromium, candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    def seen(plot: str, what: str) -> list[str]:
        found: list[str] = browser.run(
            f"[...document.querySelectorAll('svg[data-plot={plot}] {what}')].map(one => one.textContent)"
        )
        return found

    path = tmp_path / "pick.html"
    path.write_text(page.render(choice=choice(candidates, find_machine("laptop-8gb"), Need())), "utf-8")
    browser.open(path)
    assert seen("memory", "text.room") == ["5.50 GB of room"]
    laptop = set(seen("speed", "title"))
    choose(browser, "on", "rtx-3060")
    choose(browser, "context", "32768")
    assert browser.errors == []
    wanted = rank(candidates, find_machine("rtx-3060"), Need(32768))
    (room,) = seen("memory", "text.room")
    assert room.startswith(words.size(wanted.fits[0].room_bytes))
    titles = seen("speed", ":is(a, g) > title")
    assert not laptop & set(titles)
    # As many as anybody can distinguish, the best first; what is ruled out is gray, and says why.
    known = {each.title: each for each in wanted.fits}
    assert len(titles) > 10
    for title in titles:
        place = known[title.partition(":")[0]]
        assert f"{rate(place.speed.user_tok_s)} tok/s" in title
        assert title.endswith(place.why_not or "tok/s")
    out = seen("speed", ".out > title")
    assert out
    assert {known[title.partition(":")[0]].is_answer for title in out} == {False}
    answer = wanted.answer
    assert answer
    assert any(line.startswith(f"{answer.title}: ") for line in seen("memory", ":not(.out) > title"))


def test_pick_writes_the_page_and_report_one_of_several(
    browser: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for recipe in ("qwen2.5-0.5b", "lfm2-1.2b"):
        made = report(artifact("gguf-Q8_0"), recipe=recipe)
        write_json(tmp_path / "artifacts" / recipe / "report.json", made)
    laptop = ("--on", "laptop-8gb", "--page", "pick.html")
    assert app.run(["pick", "artifacts/qwen2.5-0.5b/report.json", *laptop]) == 0
    assert app.run(["report", "qwen2.5-0.5b", "lfm2-1.2b", "--html", "both.html"]) == 0
    browser.errors.clear()
    browser.open(tmp_path / "pick.html")
    assert names(browser) == ["source", "gguf-Q8_0"]
    browser.open(tmp_path / "both.html")
    assert browser.errors == []
    listed = names(browser)
    assert [each for each in listed if "source" in each] == ["source of qwen2.5-0.5b", "source of lfm2-1.2b"]
    assert "gguf-Q8_0qwen2.5-0.5b" in listed
    assert browser.run("document.querySelector('#answer').textContent").startswith("Take ")
