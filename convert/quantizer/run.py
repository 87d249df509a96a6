"""One job from end to end: the child, its progress, what is kept of its work, and why it failed."""

import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convert.child import Child, ChildFailure, FaultKind, Limits
from convert.child.server import is_out_of_memory
from convert.errors import Failure, UsageFailure
from convert.progress import Progress, Silent
from convert.quantizer.job import MODEL, RESULT, SHORTEST_WINDOW, Job, Outcome, Quantized, hand_over, refusal
from convert.quantizer.tidy import INDEX, read_config, tidy

ENGINE = "convert.quantizer.engine:run"
# It may take days and all of the machine; a plan has compared what it needs with what there is.
LIMITS = Limits(request_s=math.inf, total_s=math.inf, memory_bytes=math.inf, output_bytes=1 << 40)
# The windows are tokens already. GPTQModel still loads a tokenizer, and must not read a stranger's.
VOCABULARY = {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"}
TOKENIZER = {"version": "1.0", "added_tokens": [], "model": VOCABULARY}
TOKENIZER_CONFIG = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "pad_token": "<unk>"}
# GPTQModel splits its CPU workers between pools, and refuses to start with a single one: what it takes by
# itself where there are two cores.
MIN_WORKERS = 2
# With less free, the disk is named as full, whatever the child made of it.
LEAST_FREE_BYTES = 1 << 20
HINT_DISK = "free some space, or choose another folder with --out"
HINT_MEMORY = "ask for fewer or shorter calibration samples, or take a machine with more memory"


def quantize(job: Job, *, progress: Progress | None = None, engine: str = ENGINE) -> Outcome:
    """Fill `job.out` with quantized weights, config.json and quantize_config.json, and nothing else."""
    _check(job)
    total = sum(path.stat().st_size for path in job.source.glob("*.safetensors"))
    job.out.mkdir(parents=True, exist_ok=True)
    with Child("convert.quantizer.engine:serve", LIMITS, folder=job.out, extra=_environment()) as child:
        hand_over(job, child.scratch)
        _show_model(job.source, child.scratch / MODEL)
        with (progress or Silent()).stage(f"{job.method} layers", total) as advance:
            try:
                answer = _listen(child, engine, total, advance)
            except ChildFailure as failure:
                raise _explained(job, failure, child.output_lines()) from None
        names = tidy(child.scratch / RESULT, job)
        peak_rss_bytes = child.peaks().rss_bytes
    # GPTQModel reports layer 3's mlp.up_proj, the file of model.layers.3.mlp.up_proj.
    matrices = []
    for each in answer.pop("matrices"):
        full = (name for name in names if name.endswith(f".{each['name']}"))
        matrices.append(Quantized(**{**each, "name": next(full, each["name"])}))
    matrices.sort(key=lambda each: each.name)
    return Outcome(matrices=tuple(matrices), peak_rss_bytes=peak_rss_bytes, **answer)


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
    if why := refusal(job.method, job.matrices):
        raise Failure(f"{job.method}: {why}", "take gptq for this model")


def _environment() -> dict[str, str]:
    few = {"GPTQMODEL_CPU_WORKERS": str(MIN_WORKERS)} if (os.cpu_count() or 1) <= MIN_WORKERS else {}
    return few | {
        # Each of GPTQModel's workers has its own team of threads: one that spins takes the core of another.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS promises no equal results
    }


def _show_model(source: Path, folder: Path) -> None:
    """Give the child links to the weights, and of the rest only what it needs."""
    folder.mkdir()
    for path in [*source.glob("*.safetensors"), source / INDEX]:
        if path.is_file():
            (folder / path.name).symlink_to(path.resolve())
    config = read_config(source)
    if "quantization_config" in config:
        raise Failure(f"{source}: it is quantized already", "name the model that it was made from")
    for name, value in (
        ("config.json", config),
        ("tokenizer.json", TOKENIZER),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
    ):
        (folder / name).write_text(json.dumps(value), "utf-8")


def _listen(child: Child, engine: str, total: int, advance: Callable[[int], None]) -> dict[str, Any]:
    """Run the engine in the child, pass its progress on, and return its answer."""
    answer: dict[str, Any] = {}
    done, args = 0, {"work": str(child.scratch)}
    for share in child.stream(engine, args, lambda part, _: [float(part["share"])], done=answer.update):
        reached = max(done, int(total * share))
        advance(reached - done)
        done = reached
    return answer


def _explained(job: Job, failure: ChildFailure, lines: tuple[str, ...]) -> Failure:
    """Say in a user's words why the child failed, by the fault and by what GPTQModel printed."""
    fault = failure.fault
    # Progress bars are drawn over themselves and say nothing.
    said = [line.strip() for line in lines if any(map(str.isalpha, line)) and "| 0:" not in line]
    last = said[-1] if said else ""
    if shutil.disk_usage(job.out).free < LEAST_FREE_BYTES:
        return Failure(f"{job.method}: the disk is full", HINT_DISK)
    if fault.kind is FaultKind.REFUSED:
        return Failure(f"{job.method}: {fault.reason}", failure.hint)
    if fault.kind is FaultKind.EXITED:
        # GPTQModel ends its process where one of its threads fails, and the exception is in its output alone.
        hint = HINT_MEMORY if is_out_of_memory(last) else ""
        return Failure(f"{job.method}: GPTQModel gave up: {last or fault.reason}", hint)
    is_memory = fault.kind is FaultKind.OUT_OF_MEMORY or fault.code == -signal.SIGKILL
    return Failure(f"{job.method}: {fault.reason}", HINT_MEMORY if is_memory else last)
