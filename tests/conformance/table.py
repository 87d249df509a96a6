"""Which family goes into which format, as the tests of both have it: docs/families.md.

python -m tests.conformance.table docs/families.md
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from convert.formats import find_format, format_names
from convert.model.families import supported
from tests import tiny

HEAD = (
    "# Families and formats\n"
    "Every family below is made as a tiny seeded model in each way that its configs are written, and "
    "converted to every format that has a ✓. The artifact's answers are compared with those of Transformers: "
    "the logits of GGUF (in llama.cpp) and ONNX (in onnxruntime-genai), the tensors of `hf`, and the answers "
    "of what GPTQModel made for `gptq` and `awq`. Where a format cannot express a model, `plan` refuses it "
    "with the reason, before anything is downloaded; no file is written that answers wrongly.\n\n"
    "The names are the `model_type`s of config.json, or of its `text_config`: the text decoder of a "
    "multimodal checkpoint is converted by itself.\n\n"
    "This page is made from the families' files by `python -m tests.conformance.table docs/families.md`, "
    "and a test holds it to them.\n\n"
)


def refusal(name: str, format_name: str) -> str | None:
    """Say why a format cannot express a model, or None where it can."""
    format_, decoder = find_format(format_name), tiny.described(name)
    rendered = format_.renders(decoder)
    if rendered is None:
        return "the runtime has no such family"
    return "; ".join(sorted(decoder.features - rendered) or format_.limits(decoder)) or None


def lines() -> list[str]:
    """Write the table, and below it why cells are empty."""
    formats = format_names()
    table = [f"| family | {' | '.join(formats)} |", f"|---|{'---|' * len(formats)}"]
    reasons: list[str] = []
    for family in supported():
        names = [name for name, config in tiny.CONFIGS.items() if config["model_type"] == family]
        cells, said = [], defaultdict(list)
        for format_name in formats:
            refused = {name: why for name in names if (why := refusal(name, format_name))}
            cells.append("" if family in refused else "✓" if not refused else "✓ in part")
            if family in refused:
                said[refused[family]].append(format_name)
            else:
                for why in dict.fromkeys(refused.values()):
                    said[f"with {why}"].append(format_name)
        reasons += [f"- `{family}`, {', '.join(named)}: {why}" for why, named in said.items()]
        table.append(f"| `{family}` | {' | '.join(cells)} |")
    return [*table, "", "## What is refused", *reasons]


def page() -> str:
    """Write the page."""
    return HEAD + "\n".join(lines()) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), "utf-8")
