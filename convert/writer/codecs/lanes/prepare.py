"""Use vectorized kernels where there is enough to do; codecs encode without until they are ready."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from convert.child import Child, Limits
from convert.errors import Failure
from convert.extras import installed
from convert.writer.codecs import Codec, lanes
from convert.writer.codecs.lanes.load import cache_folder, is_compiled, load, settings_of_numba

Remark = Callable[[str], None]

# CPU seconds that a kernel must save a good part of, to be taken from the cache: that costs half a second.
LOAD_FROM_S = 2.0
# CPU seconds that compiling takes, and how many times as long as that work without a kernel must take. The
# next conversion takes the kernel from the cache, so this one need not win by it alone.
COMPILING_S, COMPILE_FROM = 6.0, 1.5
QUICKLY_COMPILED_S = {
    "Compressed": 3.0, "IQ4_NL": 3.0, "IQ4_XS": 3.0, "MLX": 2.0, "MXFP4": 2.0, "MatMulNBits": 3.0,
    "Q3_K": 4.5, "Q6_K": 3.0, "Q8_0": 1.5, "Searched": 5.0,
}  # fmt: skip
STOP_S = 5.0


def seconds_without(work: Iterable[tuple[Codec, int]]) -> dict[str, float]:
    """Add up what it takes without kernels, where there are some, from counts of weights; longest first."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for codec, count in work:
        if name := lanes.kernel_of(codec):
            seconds[name] += count / lanes.weights_per_s(codec)
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def advise(work: Iterable[tuple[Codec, int]], remark: Remark) -> dict[str, float]:
    """List the kernels that are worth their while; where numba is missing, say how to get it."""
    wanted = {name: value for name, value in seconds_without(work).items() if value >= LOAD_FROM_S}
    if wanted:
        try:
            installed("numba")
        except Failure as failure:
            remark(
                f"without numba, encoding takes several times as long ({', '.join(wanted)}): {failure.hint}"
            )
            return {}
    return wanted


def compiling_s(name: str) -> float:
    """Say how long a core compiles a kernel, roughly."""
    return QUICKLY_COMPILED_S.get(name, COMPILING_S)


def is_worth_compiling(name: str, seconds: float) -> bool:
    """Tell whether so much work without a kernel is worth its compilation."""
    return seconds >= COMPILE_FROM * compiling_s(name)


@contextmanager
def preparing(work: Iterable[tuple[Codec, int]], cache: Path, remark: Remark) -> Iterator[None]:
    """Get kernels ready for so many weights a codec, in the background, while the work is going on."""
    wanted = advise(work, lambda _: None)  # a plan has said what is missing
    if not wanted.keys() - lanes.ready.keys():
        yield
        return
    preparation = _Preparation(wanted, cache, remark)
    preparation.load_compiled()  # is waited for: encoding without would only slow it down
    preparation.start()
    try:
        yield
    finally:
        preparation.stop()


class _Preparation(threading.Thread):
    """Compiles in a child process, which can be ended at once and takes no time of this one's interpreter."""

    def __init__(self, seconds: Mapping[str, float], cache: Path, remark: Remark) -> None:
        super().__init__(name="kernels", daemon=True)
        self._seconds = seconds
        self._folder = cache_folder(cache)
        self._remark = remark
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._is_stopped = False

    def load_compiled(self) -> None:
        """Take what is in the cache."""
        with self._remarked():
            for name in self._seconds:
                if name not in lanes.ready and is_compiled(name, self._folder):
                    self._load(name)

    def run(self) -> None:
        """Compile what is not, one after the other."""
        with self._remarked():
            for name, seconds in self._seconds.items():
                if name in lanes.ready or not is_worth_compiling(name, seconds):
                    continue
                child = self._open()
                if child is None:
                    return
                child.call(name, {"folder": str(self._folder.absolute())}, lambda _: None)
                self._load(name)

    @contextmanager
    def _remarked(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, encoding goes on
            if not self._is_stopped:
                reason = error.message if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
                self._remark(
                    f"the vectorized kernels cannot be used, encoding goes on without them: {reason}"
                )

    def stop(self) -> None:
        """End at once what is still being compiled: nobody waits for it."""
        with self._lock:
            self._is_stopped = True
            if self._child:
                self._child.close()
        self.join(STOP_S)

    def _load(self, name: str) -> None:
        try:
            lanes.ready[name] = load(name, self._folder)
        except Exception:
            with suppress(OSError):
                (self._folder / name).unlink()  # damaged: compiled again the next time
            raise

    def _open(self) -> Child | None:
        with self._lock:
            if self._is_stopped:
                return None
            entry = "convert.writer.codecs.lanes.load:serve"
            self._child = self._child or Child(entry, Limits(), extra=settings_of_numba())
            return self._child
