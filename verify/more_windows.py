"""More windows of text than a file of logits holds: source and artifacts go on part by part."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from verify.logprobs import save_reference
from verify.measure import fits_together
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from verify.baseline import Baseline
    from verify.examination import Examination
    from verify.forecast import Forecast

NAME = "source"


def compare_rest(
    examinations: Sequence[Examination], baseline: Baseline, folder: Path, forecast: Forecast
) -> None:
    """Take the parts after the first: the source's logits are written, compared with each, and removed.

    All stay open meanwhile where they fit in half of the spare memory; else one is open at a time.
    """
    if not baseline.rest:
        return
    stays = fits_together([baseline.asked, *(each.launch for each in examinations)])
    with TemporaryDirectory(prefix="modelwright-logits-", dir=folder) as home, ExitStack() as stack:
        kept: dict[str, Worker] = {}

        @contextmanager
        def opened(name: str, launch: Launch) -> Iterator[Worker]:
            if not stays:
                with Worker(launch) as worker:
                    yield worker
                return
            if name not in kept:
                kept[name] = stack.enter_context(Worker(launch))
            yield kept[name]

        for number, windows in enumerate(baseline.rest, 1):
            forecast.doing(NAME, f"more logits, part {number} of {len(baseline.rest)}")
            path = Path(home) / f"{number}.logits"
            with opened(f"({NAME})", baseline.asked) as worker:
                reference = save_reference(worker, windows, path)
            for each in examinations:
                each.compare_more(opened, reference)
            for file in Path(home).iterdir():
                file.unlink()
    for each in examinations:
        each.sum_up_odds(baseline.windows)
