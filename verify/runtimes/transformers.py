"""The source itself, as Transformers runs it: float32 where it fits, else mapped; none of its code is run.

Where the weights do not fit as float32 they stay mapped as they are stored. Logits are still computed in
float32, a module's weights being widened for as long as it works; answers are given in the stored type, since
widening all of them for each token would take most of the time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.checkpoint.quantized import without_sections
from convert.child import available_memory
from convert.errors import Failure
from verify.runtimes._adapter import put_on
from verify.runtimes._causal import CausalModel, config_class, model_class, preload_torch, require_none
from verify.runtimes._checkpoint import foreign_format, is_checkpoint, quantized_by
from verify.runtimes._load_time import WAYS, quantize
from verify.runtimes._options import read_options, thread_count
from verify.runtimes._tokenizer import FolderVocabulary
from verify.runtimes._weights import read_config, read_weights, reference_of, stored_type, text_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from verify.runtimes import RuntimeSettings

FORMATS = ("hf",)
OPTIONS = {
    "dtype": ("auto", "float32", "streamed", "stored"),
    "device": "cpu",
    "tokenizer": None,
    "adapter": None,
    "quantize": ("none", *WAYS),  # when it is opened
}
preload = preload_torch
# The share of spare memory that float32 weights may take; the rest is for activations and the cache.
SHARE = 0.6


def suits(folder: Path) -> bool:
    """Return whether this is a checkpoint of plain weights; a Failure says how these are not plain."""
    if not is_checkpoint(folder):
        return False
    if method := quantized_by(folder):
        raise Failure(f"{folder}: quantized by {method}: no runtime here opens it", "give the plain weights")
    if found := foreign_format(folder):
        what = f"{folder}: safetensors in the format {found!r}: no runtime here opens it"
        raise Failure(what, "give weights that PyTorch reads")
    return True


def open_runtime(path: str, settings: RuntimeSettings) -> Transformers:
    """Open a checkpoint folder; options.tokenizer names another folder with its tokenizer.json.

    options.adapter names the folder of a LoRA adapter to put on the model.
    """
    return Transformers(Path(path), settings)


class Transformers(CausalModel):
    """The source's model; weights that do not fit as float32 stay mapped."""

    def __init__(self, folder: Path, settings: RuntimeSettings) -> None:
        import torch

        options = read_options("transformers", settings, OPTIONS)
        torch.set_num_threads(thread_count(settings))
        config = read_config(folder)
        vocabulary = FolderVocabulary(Path(options["tokenizer"] or folder), text_part(config))
        way, dtype = options["quantize"], options["dtype"]
        is_quantized = way != "none"
        dtype = "stored" if is_quantized and dtype == "auto" else dtype
        model, self._is_streamed = _open_model(folder, config, dtype)
        stored = str(model.dtype).removeprefix("torch.")
        notes = {
            "weights": stored,
            "logits": "float32" if self._is_streamed else stored,
            "offload": "mapped from disk" if self._is_streamed else "none",
        }
        if is_quantized:
            notes["quantized"] = quantize(model, way)
        if options["adapter"]:
            if reference_of(str(config.get("model_type"))):
                what = f"{folder.name}: Transformers has no class that names modules as this adapter does"
                raise Failure(what, "merge it with PEFT, and convert and verify the merged model")
            model, version = put_on(model, Path(options["adapter"]), is_streamed=self._is_streamed)
            notes["adapter"] = f"put on by PEFT {version}"
        super().__init__("transformers", model.to(options["device"]), vocabulary, settings, notes)
        self._is_wide = False
        if self._is_streamed:
            self._widen_while_working()

    def _rows(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        self._is_wide = self._is_streamed
        try:
            return super()._rows(part, at)
        finally:
            self._is_wide = False

    def _widen_while_working(self) -> None:
        """Give a module float32 weights while it works; an embedding's rows are few, and widened after."""
        torch, whole = self._torch, self._model
        stored: dict[Any, Any] = {}
        early = _asked_early(whole)

        def own(module: Any) -> set[Any]:
            return early if module is whole else _own(module, torch.nn.Conv1d) - early

        def before(module: Any, _: Any) -> None:
            if self._is_wide:
                for parameter in own(module):
                    stored[parameter] = parameter.data
                    parameter.data = parameter.data.float()

        def after(module: Any, _: Any, __: Any) -> None:
            for parameter in own(module):
                if parameter in stored:
                    parameter.data = stored.pop(parameter)

        def widened(_: Any, __: Any, out: Any) -> Any:
            return out.float() if self._is_wide else out

        for module in whole.modules():
            if isinstance(module, torch.nn.Embedding):
                module.register_forward_hook(widened)
            elif own(module) and not isinstance(module, torch.nn.Conv1d):
                module.register_forward_pre_hook(before)
                module.register_forward_hook(after)


def _own(module: Any, convolution: type) -> set[Any]:
    """List a module's weights, and those of its convolutions, which mixers compute by themselves."""
    modules = (module, *(each for each in module.children() if isinstance(each, convolution)))
    return {parameter for each in modules for parameter in each.parameters(recurse=False)}


def _asked_early(model: Any) -> set[Any]:
    """List the weights of norms and of the head, which are wide for as long as the whole model works.

    Some models ask for their type ahead of their work, and would round what they are given to it.
    """
    head = model.get_output_embeddings()
    norms = {parameter for parameter in model.parameters() if parameter.ndim < 2}
    return norms | (set(head.parameters(recurse=False)) if head is not None else set())


def _open_model(folder: Path, config: dict[str, Any], dtype: str) -> tuple[Any, bool]:
    """Return the model with its weights, and whether they stay mapped while float32 is wanted."""
    import torch

    model_type = str(config.get("model_type"))
    room = SHARE * available_memory()

    def is_wide(needed_bytes: int) -> bool:
        return dtype == "float32" or (dtype == "auto" and needed_bytes < room)

    weights = read_weights(folder, model_type, is_wide=is_wide)
    config = without_sections(config)
    if reference := reference_of(model_type):
        config = reference.config(config)
    described = config_class(folder, config.get("model_type")).from_dict(config)
    if dtype == "auto":
        needed = 4 * sum(tensor.numel() for tensor in weights.values())
        dtype = "float32" if is_wide(needed) else "streamed"
    stored = stored_type(weights)
    model, found = model_class(folder, described).from_pretrained(
        None,
        config=described,
        state_dict=weights,
        dtype=torch.float32 if dtype == "float32" else stored,
        output_loading_info=True,
    )
    require_none(folder, set(found["missing_keys"]))
    return model.eval(), dtype == "streamed" and stored != torch.float32
