"""A LoRA adapter on the source model, by PEFT itself: computed next to the weights, not merged into them."""

import warnings
from pathlib import Path
from typing import Any

from convert.errors import Failure

WEIGHTS = "adapter_model.safetensors"


def put_on(model: Any, folder: Path, *, is_streamed: bool) -> tuple[Any, str]:
    """Put an adapter on a model of Transformers'; return it, and the version of PEFT.

    `is_streamed` if the model's weights are widened for as long as a module works.
    """
    import peft
    from peft.tuners.lora.layer import ParamWrapper
    from peft.tuners.trainable_tokens import TrainableTokensLayer

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
    # Rows that replace others have nothing to be computed; PEFT would multiply these in the stored type.
    for module in adapted.modules():
        if isinstance(module, TrainableTokensLayer):
            module.merge()
        if is_streamed and isinstance(module, ParamWrapper):
            raise Failure(
                f"{folder}: changes stacked experts, which PEFT would compute in the stored type",
                "verify on a machine with memory for all weights in float32, 4 bytes each",
            )
    return adapted.get_base_model().eval(), str(peft.__version__)
