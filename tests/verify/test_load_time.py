"""The source quantized when it is opened: a row to compare artifacts with."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest

from convert.recipe import Verify
from tests.verify.opening import logits, opened
from verify.baseline import Source
from verify.measure import SpeedPlan
from verify.report import Report, markdown, page
from verify.runtimes._load_time import WAYS
from verify.task import Plan, Subject
from verify.texts import text_of
from verify.workflow import verify_artifacts

if TYPE_CHECKING:
    from tests.verify.conftest import Made

IDS = [int(token) for token in np.random.default_rng(1).integers(3, 500, 48)]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["bnb-nf4", "bnb-int8", "torchao-int8"])
def test_odds_are_a_little_off(way: str, chat: Made) -> None:
    pytest.importorskip("torchao" if way.startswith("torchao") else "bitsandbytes")
    with opened("transformers", chat.source) as plain:
        wanted = logits(plain, IDS)
    with opened("transformers", chat.source, quantize=way) as worker:
        found = logits(worker, IDS)
        assert worker.info.notes["quantized"].startswith(f"{way} by ")
    share = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
    least, most = (0.02, 0.4) if way == "bnb-nf4" else (0.0005, 0.05)
    assert least < share < most


@pytest.mark.slow
def test_rows_are_measured_next_to_the_source_and_never_judged(chat: Made) -> None:
    (named,) = get_args(Verify.model_fields["baselines"].annotation)[:1]
    assert get_args(named) == tuple(WAYS)
    pytest.importorskip("torchao")
    source = Source(chat.source, chat.source, None, None, "d" * 64, 1 << 20)
    plan = Plan(
        packs=(),
        text=text_of("prose", 256),
        text_name="prose",
        tokens=256,
        window=64,
        context=128,
        threads=1,
        speed=SpeedPlan(prompt_tokens=8, answer_tokens=4, openings=1, rounds=1, concurrency=()),
        baselines=("torchao-int8", "bnb-none"),
    )
    report = verify_artifacts([Subject("q8_0", chat.q8_0)], source, plan)
    measured, missing = report.baselines
    assert measured.quality
    assert 0 < measured.quality.kl_mean < 0.01
    assert measured.speed
    assert measured.memory
    assert (missing.quality, missing.speed) == (None, None)
    assert missing.why is not None
    assert "bnb-none" in missing.why
    (artifact,) = report.artifacts
    assert report.verdict == artifact.verdict
    assert Report.model_validate(report.model_dump(mode="json", by_alias=True)).baselines == report.baselines
    for page_of in (markdown.render, page.render):
        assert "(torchao-int8)" in page_of(report)
