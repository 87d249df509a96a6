"""A LoRA adapter on the source model, by PEFT itself: computed next to the weights, and merged into none."""

import warnings
from pathlib import Path
from typing import Any

from convert.errors import Failure

WEIGHTS = "adapter_model.safetensors"


def put_on(model: Any, folder: Path) -> tuple[Any, str]:
    """Put an adapter on a model of Transformers'; return it, and the version of PEFT."""
    import peft

    if not (folder / WEIGHTS).is_file():
        raise Failure(
            f"{folder}: there is no {WEIGHTS}",
            "weights in .bin files are never unpickled here: save the adapter as safetensors",
        )
    config = peft.LoraConfig.from_pretrained(str(folder))
    config.inference_mode = True
    config.init_lora_weights = False  # they are replaced
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what concerns training, and merging
        adapted = peft.PeftModel(model, config)
        mapping = getattr(model, "_checkpoint_conversion_mapping", {})
        found = adapted.load_adapter(str(folder), "default", torch_device="cpu", key_mapping=mapping)
    for what, names in (("missing", found.missing_keys), ("not this model's", found.unexpected_keys)):
        if names:
            raise Failure(
                f"{folder}: {len(names)} of the adapter's weights are {what}, {min(names)} among them",
                "this adapter was trained on another model",
            )
    return adapted.get_base_model().eval(), str(peft.__version__)
