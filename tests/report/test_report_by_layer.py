"""The pictures of what rounding lost and what a budget chose, by the names that formats give to tensors."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests.verify.reports import artifact, report
from verify.report import page
from verify.report.by_layer import besides_layers, losses, types


@pytest.mark.parametrize(
    "name", ["layers.{}.mlp.down.weight", "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.qweight"]
)
def test_each_matrix_is_a_cell(name: str) -> None:
    drawn = ET.fromstring(losses({name.format(0): 0.01, name.format(11): 0.2, "head.weight": 0.1}))  # noqa: S314 - our own drawing
    cells = [each for each in drawn.iter() if each.tag.endswith("rect")]
    assert [cell[0].text.split(",")[0] for cell in cells if cell[0].text] == ["layer 0", "layer 11"]
    shades = [float(cell.attrib["fill-opacity"]) for cell in cells]
    assert 0 < shades[0] < shades[1] <= 1


def test_nothing_is_drawn_of_nothing() -> None:
    assert losses({}) == losses({"head.weight": 0.1}) == types({"blk.0.attn_norm.weight": "F32"}) == ""


@pytest.mark.parametrize(
    ("least", "most"),
    [("IQ4_XS", "Q6_K"), ("4bit_g64", "6bit_g64"), ("int4_64", "BF16"), ("mxfp4", "int8_64")],
)
def test_the_bits_of_each_matrix_are_said(least: str, most: str) -> None:
    norm = {"layers.0.norm.weight": "F32", "layers.0.q.bias": "F32"}
    encodings = {"layers.0.q.weight": least, "layers.1.q.weight": most, "head.weight": most, **norm}
    drawn = ET.fromstring(types(encodings))  # noqa: S314 - our own drawing
    rects = [each for each in drawn.iter() if each.tag.endswith("rect")]
    assert [rect[0].text for rect in rects] == [f"layer 0, q: {least}", f"layer 1, q: {most}"]
    said = [int(each.text or "") for each in drawn.iter() if each.attrib.get("class") == "bits"]
    assert said[0] == 4
    assert said[1] in (6, 8, 16)
    shades = [float(rect.attrib["fill-opacity"]) for rect in rects]
    assert shades[0] < shades[1]
    assert besides_layers(encodings) == [("head", most)]
    chosen = artifact("some-5bpw").model_copy(update={"chosen_types": encodings})
    assert f"head is {most}" in page.render(report(chosen))
    assert "What the budget chose" not in page.render(report())
