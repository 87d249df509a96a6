"""A verification that is stopped for a minute, as on a laptop that sleeps: nothing false is said of it."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from convert.child.memory import descendants
from tests.verify import planting

ROOT = Path(__file__).parents[2]
STOPPED_S = 60.0
RECIPE = """\
model: ./source
targets: {gguf: {quants: [Q8_0]}}
verify: {scenarios: [pack.yaml], tokens: 256, gates: {smoke_drop: null, top1: 0.5}}
"""


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("asleep")
    planting.make_source(place / "source")
    planting.write_pack(place / "pack.yaml")
    (place / "small.yaml").write_text(RECIPE, "utf-8")
    subprocess.run(command("convert"), cwd=place, env=environment(), check=True, capture_output=True)
    return place


def command(name: str) -> list[str]:
    return [sys.executable, "-m", "convert.cli", name, "small.yaml"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def verified(place: Path, line: str | None) -> Any:
    """Verify; everything is stopped for a minute soon after this line of its progress."""
    with subprocess.Popen(
        command("verify"), cwd=place, env=environment(),
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout
        said = []
        for each in process.stdout:
            said.append(each)
            if line and line in each:
                line = None
                time.sleep(0.3)
                pids = (process.pid, *descendants(process.pid))
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
                time.sleep(STOPPED_S)
                assert process.poll() is None
                for pid in reversed(pids):
                    os.kill(pid, signal.SIGCONT)
        assert process.wait() == 0, "".join(said)
    assert line is None, "".join(said)
    return json.loads((place / "artifacts" / "small" / "report.json").read_bytes())


@pytest.fixture(scope="module")
def whole(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The report of a verification that nothing stops."""
    return verified(shutil.copytree(converted, tmp_path_factory.mktemp("whole") / "place"), None)


@pytest.mark.exhaustive
@pytest.mark.parametrize("line", ["source: opening", "gguf-Q8_0: dialogues", "gguf-Q8_0: speed, in turns"])
def test_a_verification_that_is_stopped_for_a_minute(
    converted: Path, whole: Any, tmp_path: Path, line: str
) -> None:
    stopped = verified(shutil.copytree(converted, tmp_path / "stopped"), line)
    assert stopped["scope"]["took_s"] > STOPPED_S  # the clock on the wall
    times = [*durations(stopped["source"]["speed"]), *durations(stopped["artifacts"][0]["speed"])]
    assert len(times) > 10
    assert max(times) < STOPPED_S / 2
    found = [copy.deepcopy(report) for report in (whole, stopped)]
    for report in found:
        del report["tool"], report["machine"]  # the tree may change in these minutes
        report["scope"] = {name: report["scope"][name] for name in ("dialogues", "windows", "repetitions")}
        for each in (report["source"], *report["artifacts"]):
            each["speed"] = {"repetitions": each["speed"]["ttft_s"]["count"]}
            each.pop("memory")
    assert found[0] == found[1]


def durations(speed: dict[str, Any]) -> list[float]:
    """List the seconds of these figures, and those of a token at each speed."""
    spreads = [speed[name][part] for name in ("load_s", "ttft_s") for part in ("low", "median", "high")]
    rates = [speed[name]["low"] for name in ("decode_tok_s", "prefill_tok_s")]
    per_token = [1 / rate for rate in (*rates, *speed["throughput_tok_s"].values())]
    return [*spreads, speed["inter_token_p95_s"], *per_token]
