"""The logits of a packed folder by GPTQModel and of its widened twin by Transformers: run by itself.

As a script: `answering.py PACKED WIDENED OUT.npz IDS…`.
"""

from __future__ import annotations

import os
import sys


def main(packed: str, widened: str, out: str, ids: list[int]) -> None:
    """Load both, run, write."""
    os.environ["GPTQMODEL_CPU_WORKERS"] = "2"
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from gptqmodel import BACKEND, GPTQModel  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    torch.set_num_threads(2)
    backend = BACKEND.AWQ_TORCH if packed.endswith("awq") else BACKEND.GPTQ_TORCH
    opened = GPTQModel.load(packed, device="cpu", backend=backend, dtype=torch.float16)
    plain = AutoModelForCausalLM.from_pretrained(widened, dtype=torch.float32)
    found = {}
    for name, model in (("packed", opened.model), ("widened", plain)):
        with torch.no_grad():
            found[name] = model.eval()(torch.tensor([ids])).logits[0].float().numpy()
    np.savez(out, **found)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], [int(word) for word in sys.argv[4:]])
