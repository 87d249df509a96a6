"""An ONNX graph of a decoder, and the states that it hands from one call to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
IDS, MASK, POSITIONS, LOGITS = "input_ids", "attention_mask", "position_ids", "logits"


def find_graph(folder: Path) -> Path | None:
    """Find the one graph of a folder, where genai or transformers.js looks for it."""
    found = [*folder.glob("model*.onnx"), *folder.glob("onnx/model*.onnx")]
    return found[0] if len(found) == 1 else None


def states(session: Any) -> dict[str, tuple[str, NDArray[Any]]]:
    """Pair what goes in with what comes out of a call, by name, and make each as it is before the first."""
    outputs = {each.name for each in session.get_outputs()} - {LOGITS}
    found: dict[str, tuple[str, NDArray[Any]]] = {}
    for each in session.get_inputs():
        if each.name in (IDS, MASK, POSITIONS):
            continue
        out = each.name.replace("past_key_values", "present").replace("past", "present", 1)
        if out not in outputs:
            raise Failure(f"the graph's input {each.name} comes out of no call")
        is_first = True
        shape = []
        for size in each.shape:
            # Of one text, and of none of its tokens yet.
            shape.append(size if isinstance(size, int) else 1 if is_first else 0)
            is_first = False
        found[each.name] = out, np.zeros(shape, FLOATS[each.type])
    return found


def feed(
    session: Any, part: Sequence[int], at: int, past: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Write the inputs of a call that reads these tokens after so many others."""
    values: dict[str, NDArray[Any]] = {
        IDS: np.array([part], np.int64),
        MASK: np.ones((1, at + len(part)), np.int64),
        POSITIONS: np.arange(at, at + len(part), dtype=np.int64)[None],
    }
    wanted = {each.name for each in session.get_inputs()}
    return {**{name: value for name, value in values.items() if name in wanted}, **past}
