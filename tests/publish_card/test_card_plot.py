"""The plot is a picture by itself: sound XML, true to the figures, readable in light and in dark."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from convert.publish.bundle import Waiver
from convert.publish.card.figures import plot as render
from convert.publish.card.label import label
from verify.report.plot import HEIGHT, STYLE, WIDTH

if TYPE_CHECKING:
    from convert.publish.bundle import Bundle, Candidate
    from tests.publish_card.cards import Artifacts

SVG = "{http://www.w3.org/2000/svg}"


def drawn(bundle: Bundle) -> ET.Element:
    """The plot, parsed."""
    made = render(bundle)
    assert made
    return ET.fromstring(made)  # noqa: S314 - our own file


def points(plot: ET.Element) -> list[tuple[float, float]]:
    """Where the artifacts stand."""
    return [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in plot.iter(f"{SVG}circle")]


def measuring(candidate: Candidate, kl: float, size_bytes: int) -> Candidate:
    """The same with these figures."""
    quality = candidate.result.quality
    assert quality is not None
    result = candidate.result.model_copy(update={"quality": replace(quality, kl_mean=kl, intervals={})})
    first = candidate.manifest.files[0].model_copy(update={"size_bytes": size_bytes})
    return replace(
        candidate, result=result, manifest=candidate.manifest.model_copy(update={"files": (first,)})
    )


def test_points_stand_where_the_figures_say(artifacts: Artifacts) -> None:
    given = {"gguf-Q6_K": (0.1, 400), "gguf-Q8_0": (0.01, 600), "gguf-F16": (0.001, 1000)}
    bundle = artifacts.bundle()
    members = tuple(measuring(each, *given[each.target]) for each in bundle.candidates)
    found = sorted(points(drawn(replace(bundle, candidates=members))))
    xs, ys = [x for x, _ in found], [y for _, y in found]
    assert ys == sorted(ys)  # smaller divergences lie lower
    assert (xs[2] - xs[1]) / (xs[1] - xs[0]) == pytest.approx(2, rel=0.01)  # by size: 400, 600, 1000
    assert ys[2] - ys[1] == pytest.approx(ys[1] - ys[0], abs=0.2)  # by the logarithm: equal steps


def test_every_artifact_is_named_within_the_picture(artifacts: Artifacts) -> None:
    bundle = artifacts.bundle()
    plot = drawn(bundle)
    texts = {each.text: each for each in plot.iter(f"{SVG}text")}
    for candidate in bundle.candidates:
        assert label(candidate) in texts
    for each in texts.values():
        assert 0 < float(each.attrib["x"]) < WIDTH
        assert 0 < float(each.attrib["y"]) < HEIGHT
    for x, y in points(plot):
        assert 0 < x < WIDTH
        assert 0 < y < HEIGHT


def test_names_do_not_lie_on_each_other(artifacts: Artifacts) -> None:
    bundle = artifacts.bundle()
    members = tuple(measuring(each, 0.01, 1000) for each in bundle.candidates)
    plot = drawn(replace(bundle, candidates=members))
    boxes = [box(each) for each in plot.iter(f"{SVG}text") if each.get("class") == "name"]
    assert len(boxes) == 3
    for one in boxes:
        for left, top, right, bottom in boxes:
            if (left, top, right, bottom) != one:
                assert right <= one[0] or one[2] <= left or bottom <= one[1] or one[3] <= top


def box(text: ET.Element) -> tuple[float, float, float, float]:
    """Where a name is drawn, by the width that its letters have on average."""
    x, y, width = float(text.attrib["x"]), float(text.attrib["y"]), 8 * len(text.text or "")
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[text.attrib["text-anchor"]]
    return left, y - 11, left + width, y + 3


@pytest.mark.parametrize("kl", [0.0, 1e-9, 1e-6, 1.0, 40.0])
def test_any_divergence_can_be_drawn(artifacts: Artifacts, kl: float) -> None:
    bundle = artifacts.bundle(artifacts.candidate())
    only = (measuring(bundle.candidates[0], kl, 12345),)
    for x, y in points(drawn(replace(bundle, candidates=only))):
        assert math.isfinite(x)
        assert 0 < y < HEIGHT


def test_what_was_waived_looks_different(artifacts: Artifacts) -> None:
    waived = replace(artifacts.candidate("gguf-Q6_K"), waived=(Waiver("top1", "x"),))
    plot = drawn(artifacts.bundle(waived, artifacts.candidate("gguf-Q8_0")))
    assert sorted(each.attrib["class"] for each in plot.iter(f"{SVG}circle")) == ["good", "waived"]
    names = [each.text for each in plot.iter(f"{SVG}text") if each.get("class") == "name"]
    assert sorted(map(str, names)) == ["Q6_K, waived", "Q8_0"]


def test_nothing_measured_is_no_picture(artifacts: Artifacts) -> None:
    candidate = artifacts.candidate()
    bare = replace(candidate, result=candidate.result.model_copy(update={"quality": None}))
    assert render(artifacts.bundle(bare)) == ""


def test_it_needs_nothing_from_elsewhere(artifacts: Artifacts) -> None:
    made = render(artifacts.bundle())
    assert made
    text = made.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|url\(|@import|<script|<image|<foreignObject|href", text)


def test_a_strangers_name_is_text(artifacts: Artifacts) -> None:
    for name in ("gguf-<script>", 'gguf-"/><x', "gguf-&amp;", "gguf-\x1b\u202e"):
        candidate = replace(artifacts.candidate(), target=name)
        plot = drawn(replace(artifacts.bundle(), candidates=(candidate,)))
        assert {each.tag for each in plot.iter()} <= {
            f"{SVG}{tag}" for tag in ("svg", "title", "style", "rect", "text", "path", "circle")
        }


def contrast(one: str, other: str) -> float:
    """As WCAG counts it."""

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        lit = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * lit[0] + 0.7152 * lit[1] + 0.0722 * lit[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_words_and_points_can_be_read_in_light_and_in_dark() -> None:
    light, dark = STYLE.split("@media")
    for style in (light, dark):
        (ground,) = re.findall(r"\.ground\{fill:(#\w+)", style)
        (words,) = re.findall(r"(?:^|\n|[;{])\s*text\{[^}]*fill:(#\w+)", style)
        (title,) = re.findall(r"\.title[^{]*\{[^}]*fill:(#\w+)", style)
        (point,) = re.findall(r"\.good\{fill:(#\w+)", style)
        (ring,) = re.findall(r"\.waived\{[^}]*stroke:(#\w+)", style)
        assert contrast(words, ground) > 4.5
        assert contrast(title, ground) > 7
        assert contrast(point, ground) > 3
        assert contrast(ring, ground) > 3
