"""GPTQ's rounding on an NVIDIA GPU: products by CuPy, and what is between two of them in one kernel.

The order of the sums within a product is CUDA's, so codes differ from a CPU's where two are as near.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.device import enough_memory
from convert.rounding.factor import BLOCK
from convert.rounding.grid import FREE, LEVELS, Scales, find_scales

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from convert.rounding.factor import Factor
    from convert.rounding.grid import Grid, Rows

# Factors that stay on the GPU: as many matrices are rounded at once.
KEPT = 4
THREADS = 32
# One thread has one row. It goes from the panel's last column to its first, each a candidate for all before.
SOURCE = """
extern "C" __global__ void round_panel(
    const float* target, const float* wanted, const float* scale, const float* shift, const float* corner,
    const float* levels, unsigned char* codes, float* lost, int width, int rows, int top, int kind)
{
    int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    float left[BLOCK];
    #pragma unroll
    for (int at = 0; at < BLOCK; ++at) left[at] = at < width ? target[at * rows + row] : 0.0f;
    #pragma unroll
    for (int at = BLOCK - 1; at >= 0; --at) {
        if (at < width) {
            int place = at * rows + row;
            float step = scale[place], zero = shift[place];
            float value = kind == FREE ? left[at] - zero : left[at];
            float ratio = step != 0.0f ? value / step : 0.0f;
            float code, meant;
            if (kind == LEVELS) {
                int found = 0;
                while (found < top && (levels[found + 1] + levels[found]) / 2.0f < ratio) ++found;
                code = found;
                meant = levels[found] * step;
            } else {
                if (kind != FREE) ratio += zero;
                code = fminf(fmaxf(rintf(ratio), 0.0f), (float)top);
                meant = kind == FREE ? code * step + zero : (code - zero) * step;
            }
            codes[place] = (unsigned char)code;
            float error = wanted[place] - meant;
            lost[place] = error;
            #pragma unroll
            for (int before = 0; before < BLOCK; ++before)
                if (before < at) left[before] += corner[at * BLOCK + before] * error;
        }
    }
}
"""
OPTIONS = (f"-DBLOCK={BLOCK}", f"-DFREE={FREE}", f"-DLEVELS={LEVELS}", "--fmad=false")

_kept: OrderedDict[str, list[tuple[Any, list[Any]]]] = OrderedDict()
_lock = threading.Lock()  # threads that launch at once wait for each other at every launch


def round_on_gpu(rows: Rows, grid: Grid, factor: Factor) -> tuple[NDArray[np.uint8], Scales]:
    """Round rows so that their products change least; codes and scales come back."""
    import cupy  # noqa: PLC0415 - seconds, and only with the extra

    with _lock, enough_memory():
        moved: Any = cupy.asarray(rows)
        columns = rows.shape[1]
        scales: Any = find_scales(moved, grid, cupy.asarray(factor.importance))
        spread = scales.spread(grid, columns)
        codes = cupy.empty(rows.shape, np.uint8)
        for part, held in zip(factor.parts, _held(factor), strict=True):
            across = slice(part.first, part.first + part.columns)
            order, panels = held
            turned = (
                cupy.ascontiguousarray(each[:, across].T[order])
                for each in (moved, spread.scales, spread.shifts)
            )
            back = cupy.empty((part.columns, len(rows)), np.uint8)
            back[order] = _compensated(turned, grid, panels)
            codes[:, across] = back.T
        return codes.get(), Scales(scales.scales.get(), scales.shifts.get())


def _compensated(turned: Iterable[Any], grid: Grid, panels: list[Any]) -> Any:
    """Round a part's columns, in the factor's order and one after the other in memory."""
    import cupy  # noqa: PLC0415

    kernel = _kernel()
    wanted, scale, shift = turned
    columns, rows = wanted.shape
    levels = cupy.asarray(grid.table)
    lost = cupy.zeros_like(wanted)
    codes = cupy.empty((columns, rows), np.uint8)
    blocks = (-(-rows // THREADS),)
    for panel, first in zip(reversed(panels), reversed(range(0, columns, BLOCK)), strict=True):
        stop = min(columns, first + BLOCK)
        corner, below = panel
        target = wanted[first:stop] + below.T @ lost[stop:] if stop < columns else wanted[first:stop]
        here = slice(first, stop)
        kernel(
            blocks,
            (THREADS,),
            (
                target, wanted[here], scale[here], shift[here], corner, levels, codes[here], lost[here],
                np.int32(stop - first), np.int32(rows), np.int32(grid.top), np.int32(grid.kind),
            ),
        )  # fmt: skip
    return codes


@cache
def _kernel() -> Any:
    """Compile the kernel, once for each GPU; CuPy keeps it between runs."""
    import cupy  # noqa: PLC0415

    return cupy.RawKernel(SOURCE, "round_panel", options=OPTIONS)


def _held(factor: Factor) -> list[tuple[Any, list[Any]]]:
    """Bring a factor to the GPU, and keep the last few there: many threads round by the same."""
    import cupy  # noqa: PLC0415

    if factor.key not in _kept:
        parts = []
        for part in factor.parts:
            panels = []
            for panel in part.panels:
                width = panel.shape[1]
                corner = np.zeros((BLOCK, BLOCK), np.float32)
                corner[:width, :width] = panel[:width]
                panels.append((cupy.asarray(corner), cupy.asarray(np.ascontiguousarray(panel[width:]))))
            parts.append((cupy.asarray(part.order), panels))
        _kept[factor.key] = parts
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(factor.key)
    return _kept[factor.key]
