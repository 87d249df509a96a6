"""The source quantized when it is opened: a row to compare artifacts with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.verify.opening import logits, opened

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
