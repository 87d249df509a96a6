"""What GPTQModel, and Transformers where it can, read in a folder: run by itself, since natives leave traces.

As a script: `reading.py FOLDER OUT.npz IDS…` writes every dequantised matrix (out, in), and both logits.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(folder: str, out: str, ids: list[int]) -> None:
    """Read, run, write."""
    os.environ["GPTQMODEL_CPU_WORKERS"] = "2"
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from gptqmodel import BACKEND, GPTQModel  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, GPTQConfig  # noqa: PLC0415

    torch.set_num_threads(2)

    def logits(model: Any) -> Any:
        with torch.no_grad():
            return model.eval()(torch.tensor([ids])).logits[0].float().numpy()

    opened = GPTQModel.load(folder, device="cpu", backend=BACKEND.GPTQ_TORCH, dtype=torch.float16)
    found = {
        name: module.dequantize_weight().float().numpy().T
        for name, module in opened.model.named_modules()
        if hasattr(module, "dequantize_weight")
    }
    found["logits"] = logits(opened.model)
    model_type = json.loads((Path(folder) / "config.json").read_text("utf-8"))["model_type"]
    if model_type != "gpt2":  # Transformers initialises GPT-2's Conv1D by a weight that a quantised one lacks
        # By the same kernel: the one that it would choose by itself rounds activations otherwise.
        asked = GPTQConfig(bits=4, backend=BACKEND.GPTQ_TORCH.value)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16, quantization_config=asked)
        found["logits of transformers"] = logits(model)
    np.savez(out, **found)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [int(word) for word in sys.argv[3:]])
