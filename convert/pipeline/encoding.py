"""Foresee what encoding takes: by libggml, by kernels that are ready, or by both while they are compiled."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from convert.errors import Failure
from convert.writer.codecs import lanes
from convert.writer.codecs.ggml import Ggml
from convert.writer.codecs.lanes.load import cache_folder, is_compiled
from convert.writer.codecs.lanes.prepare import COMPILE_FROM_S, COMPILING_S, advise

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
            name = codec.name
            is_ready = name in worth and (name in lanes.ready or is_compiled(name, folder))
            if isinstance(codec, Ggml) and is_ready:
                now[name] += self._speeds.kernel_s(codec, count, folder)
                later[name] = now[name]
                continue
            libggml_s = self._speeds.encoding_s(codec, count)
            now[name] += libggml_s
            if isinstance(codec, Ggml) and worth.get(name, 0.0) >= COMPILE_FROM_S:
                to_compile.add(name)
                later[name] += self._speeds.kernel_s(codec, count, folder)
            else:
                later[name] += libggml_s
        if not to_compile:
            return dict(now)
        return self._while_compiling(now, later, COMPILING_S * len(to_compile))

    def _while_compiling(
        self, now: Mapping[str, float], later: Mapping[str, float], compiling_s: float
    ) -> dict[str, float]:
        """Let libggml encode for as long as a core compiles meanwhile, and kernels what is left."""
        share = min(1.0, compiling_s * self._threads / sum(now.values()))
        found = {name: share * now[name] + (1 - share) * later[name] for name in now}
        return {**found, COMPILING: min(compiling_s, sum(now.values()) / self._threads)}
