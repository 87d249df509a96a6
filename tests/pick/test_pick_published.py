"""The estimate against what was published of Qwen-7B-Chat on one A100 (its card and README, 2023).

Its script prints the peak that torch has allocated, in units of 2^30 bytes; the weights of its BF16 files are
14.38 of these, and a cache of 8,192 tokens is 4.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from convert.formats import find_format
from convert.pick import memory
from convert.pick.candidate import parse
from convert.pick.known import find_model
from convert.pick.runtime import find_runtime

GIB = 1 << 30
PUBLISHED = {
    "hf": (16.99, 22.53),
    "gptq:8": (11.20, 16.62),
    "gptq:4": (8.21, 13.63),
}


@pytest.mark.parametrize("target", PUBLISHED)
def test_the_estimate_is_within_a_tenth_of_what_was_published(target: str) -> None:
    holds = find_runtime("transformers-2023").holds
    known = find_model("Qwen/Qwen-7B-Chat", Path("nowhere"))
    name, options = parse(target)
    weights = find_format(options.format_name).weigh(known.decoder, options, name, known.native)
    assert weights is not None
    weighed = memory.weigh(known.decoder, weights)
    encoded = memory.estimate(known.decoder, weighed, holds, context=2048 + 1, prompt_tokens=2048)
    generated = memory.estimate(known.decoder, weighed, holds, context=8192, prompt_tokens=1)
    for found, published in zip((encoded, generated), PUBLISHED[target], strict=True):
        error = found.total_bytes / GIB / published - 1
        assert abs(error) <= holds.error.value <= 0.1, f"{found.total_bytes / GIB:.2f} for {published}"
