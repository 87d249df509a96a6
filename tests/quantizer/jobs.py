"""Jobs for the quantizer, with the matrices that a source's own config describes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from convert.formats.gptq.estimate import matrices
from convert.formats.hf.tensors import stored_tensors
from convert.model.config import Config
from convert.model.families import find_family
from convert.quantizer import Job

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from convert.quantizer import Method


def make_job(
    source: Path, out: Path, method: Method, windows: tuple[NDArray[np.int32], ...], **options: Any
) -> Job:
    """Describe the source, and ask for all of its layers' matrices."""
    values = json.loads((source / "config.json").read_text("utf-8"))
    config = Config({name: value for name, value in values.items() if name != "quantization_config"})
    stored = stored_tensors(find_family(config).describe(config))
    return Job(source, out, method, windows, matrices(stored), **options)
