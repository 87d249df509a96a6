"""Round a checkpoint to FP8 by llmcompressor's way that loads no model.

It wants another version of Transformers than this project, so it is installed apart and named:

    pip install --no-deps --target build/llmcompressor llmcompressor loguru
    LLMCOMPRESSOR=build/llmcompressor python -m tests.bench.llmcompressor SOURCE OUT
"""

from __future__ import annotations

import os
import sys

# What our artifact leaves in 16 bits too.
IGNORED = ["lm_head", "re:.*norm.*", "re:.*embed_tokens.*"]


def main() -> None:
    """Write what its users get."""
    source, out = sys.argv[1:]
    sys.path.append(os.environ["LLMCOMPRESSOR"])
    from llmcompressor.entrypoints.model_free import model_free_ptq  # noqa: PLC0415 - found by its own path

    model_free_ptq(source, out, scheme="FP8_DYNAMIC", ignore=IGNORED, device="cpu")


if __name__ == "__main__":
    main()
