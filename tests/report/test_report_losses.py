"""The picture of what rounding lost, by the names that formats give to tensors."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from verify.report.losses import losses


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
    assert losses({}) == losses({"head.weight": 0.1}) == ""
