"""One job from end to end: a private folder, the child, progress, and what is kept of its work."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.checkpoint import open_checkpoint
from convert.errors import Failure, UsageFailure
from convert.progress import Silent
from convert.quantizer.job import (
    MODEL,
    RESULT,
    SHORTEST_WINDOW,
    Job,
    Outcome,
    Treated,
    hand_over,
    refusal,
    require,
)
from convert.quantizer.process import listen
from convert.quantizer.tidy import INDEX, LAYER, read_config, tidy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.progress import Progress

ENGINE = "convert.quantizer.engine:run"
# The windows are tokens already. GPTQModel still loads a tokenizer, and must not read a stranger's.
TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": None,
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"},
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<unk>",
    "pad_token": "<unk>",
}


def quantize(job: Job, *, progress: Progress | None = None, engine: str = ENGINE) -> Outcome:
    """Fill `job.out` with quantised weights, config.json and quantize_config.json, and nothing else."""
    if engine == ENGINE:
        require()
    _check(job)
    total = sum(path.stat().st_size for path in job.source.glob("*.safetensors"))
    with _work_folder(job.out) as work:
        hand_over(job, work)
        _show_model(job.source, work / MODEL)
        with (progress or Silent()).stage(f"{job.method} layers", total) as advance:
            done = 0

            def told(message: dict[str, Any]) -> None:
                nonlocal done
                reached = max(done, int(total * float(message["share"])))
                advance(reached - done)
                done = reached

            answer = listen(work, engine, job.method, told)
        names = tidy(work / RESULT, job.source, job.out)
    # GPTQModel tells of layer 3's mlp.up_proj, the file of model.layers.3.mlp.up_proj.
    full = {name[LAYER.search(name).start() + 1 :]: name for name in names}  # type: ignore[union-attr]
    matrices = (
        Treated(**{**each, "name": full.get(each["name"], each["name"])}) for each in answer.pop("matrices")
    )
    return Outcome(matrices=tuple(sorted(matrices, key=lambda each: each.name)), **answer)


def _check(job: Job) -> None:
    if not job.windows:
        raise UsageFailure(f"{job.method}: no calibration text", "add calibration: {packs: [searchqa]}")
    short = min(map(len, job.windows))
    if short < SHORTEST_WINDOW:
        raise Failure(
            f"{job.method}: a calibration window of {short} tokens, and fewer than {SHORTEST_WINDOW} teach "
            "nothing",
            "give a longer calibration text",
        )
    with open_checkpoint(job.source) as checkpoint:
        tensors = checkpoint.tensors.values()
        rows = [info.shape[0] for info in tensors if len(info.shape) == 2 and LAYER.search(info.name)]
    why = refusal(job.method, str(read_config(job.source).get("model_type")), rows)
    if why:
        raise Failure(f"{job.method}: {why}", "take gptq for this model")


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".quantizer-", dir=out))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _show_model(source: Path, folder: Path) -> None:
    """Show the child the weights by links, and of the rest only what it needs."""
    folder.mkdir()
    for path in [*source.glob("*.safetensors"), source / INDEX]:
        if path.is_file():
            (folder / path.name).symlink_to(path.resolve())
    config = read_config(source)
    if "quantization_config" in config:
        raise Failure(f"{source}: it is quantised already", "name the model that it was made from")
    for name, value in (
        ("config.json", config),
        ("tokenizer.json", TOKENIZER),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
    ):
        (folder / name).write_text(json.dumps(value), "utf-8")
