"""One thread for each of numpy's matrix products, so that their sums do not depend on how many there are."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

# Where numpy's wheels carry OpenBLAS: next to the package on Linux and Windows, within it on macOS.
FOLDERS = ("../numpy.libs", ".dylibs")
PATTERN = "*scipy_openblas*"


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep OpenBLAS from splitting products itself: it would add in another order for each number of threads.

    A numpy that was built with another library is left as it is: its results are right to the same precision,
    and may differ in their last bits between runs with different numbers of threads.
    """
    library = _openblas()
    if library is None:
        yield
        return
    before = library.scipy_openblas_get_num_threads64_()
    library.scipy_openblas_set_num_threads64_(1)
    try:
        yield
    finally:
        library.scipy_openblas_set_num_threads64_(before)


@cache
def _openblas() -> ctypes.CDLL | None:
    """Find the library that numpy has loaded already."""
    package = Path(np.__file__).parent
    for folder in FOLDERS:
        for path in sorted((package / folder).glob(PATTERN)):
            library = ctypes.CDLL(str(path.resolve()))
            if hasattr(library, "scipy_openblas_set_num_threads64_"):
                library.scipy_openblas_set_num_threads64_.argtypes = [ctypes.c_int]
                library.scipy_openblas_set_num_threads64_.restype = None
                return library
    return None
