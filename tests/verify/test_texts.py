"""Texts of several kinds, more windows than a file holds, and long texts."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, get_args

import pytest

from convert.recipe.model import Verify
from verify import baseline, texts
from verify.baseline import Source
from verify.long_context import DEPTHS, PARTS
from verify.report import markdown
from verify.task import Plan, Subject
from verify.workflow import verify_artifacts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.verify.conftest import Made
    from verify.report import ArtifactResult


def test_each_kind_has_a_text_that_is_always_the_same() -> None:
    (named,) = get_args(Verify.model_fields["texts"].annotation)[:1]
    assert get_args(named) == texts.KINDS
    for kind in texts.KINDS:
        text = texts.text_of(kind, 3000)
        assert text == texts.text_of(kind, 3000)
        assert len(text.encode()) > 2500, kind
    han = re.findall(r"[\u4e00-\u9fff]", texts.text_of("chinese", 1))
    assert len(han) > 800
    lines = texts.text_of("tools", 2000).split("<tool_call>\n")[1:]
    assert all(json.loads(line.partition("\n")[0])["arguments"] for line in lines)
    assert len(set(islice(texts.entries(), 500))) == 500


def verified(chat: Made, folder: Path) -> ArtifactResult:
    source = Source(chat.source, chat.source, None, None, "d" * 64, 1 << 20)
    plan = Plan(
        packs=(),
        text="",
        text_name="two kinds",
        texts=tuple((kind, texts.text_of(kind, 512)) for kind in ("code", "chinese")),
        tokens=512,
        window=64,
        context=128,
        threads=1,
        measures="quality",
        long_context=256,
        cache=folder,
    )
    (found,) = verify_artifacts([Subject("q8_0", chat.q8_0)], source, plan).artifacts
    return found


@pytest.mark.slow
def test_parts_give_the_figures_of_the_whole(
    chat: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = verified(chat, tmp_path / "whole")
    assert whole.quality is not None
    assert {kind: each.positions for kind, each in whole.quality.kinds.items()} == {
        "code": 4 * 31,
        "chinese": 4 * 31,
    }
    mean = sum(each.kl_mean for each in whole.quality.kinds.values()) / 2
    assert whole.quality.kl_mean == pytest.approx(mean)
    monkeypatch.setattr(baseline, "REFERENCE_BYTES", 3 * 31 * 512 * 4)  # three windows of eight
    parts = verified(chat, tmp_path / "parts")
    assert parts.quality == whole.quality
    assert max(path.stat().st_size for path in (tmp_path / "parts").rglob("*")) <= 3 * 31 * 512 * 4

    found = whole.long_context
    assert found is not None
    assert len(found.parts) == PARTS
    assert [part.start for part in found.parts[1:]] == [part.stop for part in found.parts[:-1]]
    assert found.parts[-1].stop == found.tokens - 1 == 255
    assert all(part.ppl == pytest.approx(part.ppl_source, rel=0.1) for part in found.parts)
    assert [each.depth for each in found.depths] == list(DEPTHS)
    shown = dict(markdown.figures(whole))
    assert "KL divergence, chinese" in shown
    assert shown["number hidden at 50% of 256 tokens"].startswith("not found")  # its weights are random
