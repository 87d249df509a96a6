"""Kernels give the bytes of libggml and numpy; they come when they are worth it, and nobody waits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert.errors import Failure
from convert.writer.codecs import lanes
from convert.writer.codecs.ggml import Ggml
from convert.writer.codecs.lanes import prepare
from convert.writer.codecs.lanes.load import cache_folder, is_compiled
from convert.writer.codecs.matmul_nbits import NBits
from convert.writer.codecs.plain import Plain
from tests.writer import lanes as compare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from convert.writer.codecs import Codec

ROOT = Path(__file__).parents[2]
MUCH: list[tuple[Codec, int]] = [(Ggml("Q4_K"), 1 << 40)]


@pytest.fixture
def ready() -> Iterator[dict[str, lanes.Encode]]:
    """Forget afterwards which kernels are ready, as they were before."""
    before = lanes.ready.copy()
    lanes.ready.clear()
    yield lanes.ready
    lanes.ready.clear()
    lanes.ready.update(before)


def wait_for(name: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while name not in lanes.ready:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("name", compare.KERNELS)
def test_a_kernel_that_is_compiled_gives_the_same_bytes(name: str) -> None:
    if not is_compiled(name, cache_folder(compare.CACHE)):
        pytest.skip("not compiled: the slow tests do that")
    assert compare.differing(compare.compiled(name), name, (3, 512)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", compare.KERNELS)
@pytest.mark.parametrize("cpu", ["", pytest.param("generic", marks=pytest.mark.exhaustive)])
def test_every_byte_is_the_same(name: str, cpu: str) -> None:
    """Over twenty kinds of data, each with five kinds of importance: 50 million weights a kernel."""
    command = [sys.executable, "-m", "tests.writer.lanes", str(compare.CACHE), "150_000", name]
    env = os.environ | ({"NUMBA_CPU_NAME": cpu} if cpu else {})
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_kernel_has_its_reference() -> None:
    sources = Path(lanes.__file__).parent.glob("*.py")
    files = {path.stem for path in sources if "\n@kernel" in path.read_text("utf-8")}
    # Which tests/compressed, tests/mlx and tests/rounding compare with numpy.
    files -= {"compressed", "mlx", "searched"}
    assert files == {name.lower() for name in compare.KERNELS}


def test_little_work_waits_for_nobody(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from convert.writer.codecs.ggml import Ggml\n"
        "from convert.writer.codecs.lanes.prepare import preparing\n"
        "with preparing([(Ggml('Q4_K'), 1 << 20)], Path(sys.argv[1]), print): pass\n"
        "print('numba' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
    assert not [*tmp_path.iterdir()]


def test_only_what_has_a_kernel_counts() -> None:
    count = 13_000_000
    work: list[tuple[Codec, int]] = [
        (Ggml("Q4_K"), count),
        (Ggml("Q4_K", b"1234"), count),
        (Plain("F16"), count),
    ]
    assert prepare.seconds_without([*work, (Ggml("Q4_1"), count)]) == pytest.approx({"Q4_K": 2.0})


def test_little_compilation_takes_less_work_to_be_worth_it() -> None:
    count = 1_600_000_000
    work: list[tuple[Codec, int]] = [(NBits(4, 32), count), (NBits(8, 32, is_symmetric=False), count)]
    ((name, seconds),) = prepare.seconds_without(work).items()
    assert name == "MatMulNBits"
    assert seconds == pytest.approx(8)
    assert prepare.is_worth_compiling(name, seconds)
    assert not prepare.is_worth_compiling("Q4_K", seconds)


def test_without_numba_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> str:
        raise Failure("numba is not installed", "pip install 'modelwright[fast]'")

    monkeypatch.setattr(prepare, "installed", absent)
    said: list[str] = []
    assert prepare.advise(MUCH, said.append) == {}
    (line,) = said
    assert "Q4_K" in line
    assert line.endswith("pip install 'modelwright[fast]'")


@pytest.mark.usefixtures("ready")
def test_a_failure_is_one_line_and_libggml_goes_on(tmp_path: Path) -> None:
    (tmp_path / "kernels").write_text("no folder")
    said: list[str] = []
    with prepare.preparing(MUCH, tmp_path, said.append):
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        Ggml("Q4_K").encode(np.ones((1, 256), np.float32))
    (line,) = said
    assert line.startswith("the vectorized kernels cannot be used, encoding goes on without them: ")
    assert str(tmp_path / "kernels") in line


@pytest.mark.usefixtures("ready")
def test_nobody_waits_for_the_compiler(tmp_path: Path) -> None:
    said: list[str] = []
    with prepare.preparing(MUCH, tmp_path, said.append):
        time.sleep(0.5)
        began = time.monotonic()
    assert time.monotonic() - began < 3
    assert said == []
    assert lanes.ready == {}


@pytest.mark.slow
def test_libggml_hands_over_and_the_next_process_compiles_nothing(
    tmp_path: Path, ready: dict[str, lanes.Encode]
) -> None:
    said: list[str] = []
    rows = compare.gaussian(np.random.default_rng(0), (70, 512))
    codecs = [Ggml("Q4_K"), Ggml("Q4_K", np.arange(512, dtype=np.float32).tobytes())]
    before = [codec.encode(rows)[0] for codec in codecs]
    with prepare.preparing(MUCH, tmp_path, said.append):
        wait_for("Q4_K")
        encode, used = ready["Q4_K"], []

        def counted(*given: Any) -> None:
            used.append(1)
            encode(*given)

        ready["Q4_K"] = counted
        for codec, expected in zip(codecs, before, strict=True):
            assert codec.encode(rows)[0].tobytes() == expected.tobytes()
        assert used == [1, 1]
    assert said == []
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from convert.writer.codecs.lanes.load import cache_folder, load\n"
        "stats = load('Q4_K', cache_folder(Path(sys.argv[1]))).stats\n"
        "print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 0\n"


@pytest.mark.slow
@pytest.mark.usefixtures("ready")
def test_a_damaged_cache_is_said_and_compiled_again(tmp_path: Path) -> None:
    """The module is gone from this process afterwards, so that it is loaded again."""
    module = "convert.writer.codecs.lanes.q4_k"
    sys.modules.pop(module, None)
    said: list[str] = []
    with prepare.preparing(MUCH, tmp_path, said.append):
        wait_for("Q4_K")
    lanes.ready.clear()
    folder = cache_folder(tmp_path)
    for file in folder.rglob("*.nbc"):
        file.write_bytes(b"damaged")
    sys.modules.pop(module)
    with prepare.preparing(MUCH, tmp_path, said.append):
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(said) == 1
    assert not is_compiled("Q4_K", folder)
