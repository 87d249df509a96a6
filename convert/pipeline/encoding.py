"""Foresee what encoding takes: by kernels that are ready, without, or by both while they are compiled."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from convert.errors import Failure
from convert.writer.codecs import lanes
from convert.writer.codecs.lanes.load import cache_folder, is_compiled
from convert.writer.codecs.lanes.prepare import advise, compiling_s, is_worth_compiling

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from convert.writer.codecs import Codec
    from convert.writer.speed import Speeds


COMPILING = "compiling kernels"


class Encoding:
    """The choice between kernels that a conversion makes, and how long it takes by it."""

    def __init__(self, speeds: Speeds, cache: Path, threads: int) -> None:
        self._speeds = speeds
        self._cache = cache
        self._threads = threads

    def core_s(self, weights: Mapping[Codec, int]) -> dict[str, float]:
        """Return what each encoding takes of one core, and the compilation of kernels."""
        worth = advise(weights.items(), lambda _: None)
        try:
            folder = cache_folder(self._cache)
        except Failure:  # without numba there are no kernels
            folder, worth = self._cache, {}
        now: defaultdict[str, float] = defaultdict(float)
        later: defaultdict[str, float] = defaultdict(float)
        to_compile = set()
        for codec, count in weights.items():
            name, kernel = codec.name, lanes.kernel_of(codec)
            if kernel in worth and (kernel in lanes.ready or is_compiled(kernel, folder)):
                now[name] += self._speeds.kernel_s(codec, count, folder)
                later[name] = now[name]
                continue
            without_s = self._speeds.encoding_s(codec, count)
            now[name] += without_s
            if kernel in worth and is_worth_compiling(kernel, worth[kernel]):
                to_compile.add(kernel)
                later[name] += self._speeds.kernel_s(codec, count, folder)
            else:
                later[name] += without_s
        if not to_compile:
            return dict(now)
        return self._while_compiling(now, later, sum(map(compiling_s, to_compile)))

    def _while_compiling(
        self, now: Mapping[str, float], later: Mapping[str, float], compiling_s: float
    ) -> dict[str, float]:
        """Encode without kernels for as long as a core compiles meanwhile, and with them what is left."""
        share = min(1.0, compiling_s * self._threads / sum(now.values()))
        found = {name: share * now[name] + (1 - share) * later[name] for name in now}
        return {**found, COMPILING: min(compiling_s, sum(now.values()) / self._threads)}
