"""Rounding weights to the few numbers that a format can store, so that a model loses least by it."""

from convert.rounding.compensate import Rounded, round_rows, rows_together
from convert.rounding.factor import Factor, Part, factorize
from convert.rounding.grid import Grid, Scales, find_scales

__all__ = [
    "Factor",
    "Grid",
    "Part",
    "Rounded",
    "Scales",
    "factorize",
    "find_scales",
    "round_rows",
    "rows_together",
]
