"""Windows of text in the batches in which they pass through a layer."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from convert.calibration import Windows
from convert.calibration import windows as cut_windows
from convert.model.decoder import Decoder
from convert.model.source import Model
from convert.progress import Progress
from convert.recipe import Calibration, Recipe

# Tokens that pass through a layer together; a longer window passes alone.
BATCH_TOKENS = 2048


def cut(model: Model, recipe: Recipe, calibration: Calibration, progress: Progress) -> Windows:
    """Cut a recipe's calibration text into windows of the model's tokens."""
    return cut_windows(
        calibration,
        recipe.path.parent,
        model.tokenizer,
        model.decoder.context_length,
        source=model.texts,
        progress=progress,
    )


def work_bytes(decoder: Decoder, windows: Windows) -> int:
    """Count the hidden states that pass through the layers: what `advance` adds up to."""
    return 4 * decoder.hidden_size * decoder.layer_count * windows.token_count


def batches(windows: Windows) -> Iterator[NDArray[np.int32]]:
    """Stack windows of one length, (texts, positions)."""
    for length, group in groupby(windows.tokens, key=len):
        alike = list(group)
        step = max(1, BATCH_TOKENS // length)
        for first in range(0, len(alike), step):
            yield np.stack(alike[first : first + step])
