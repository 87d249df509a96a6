"""The source itself, as Transformers runs it: float32 where it fits, else mapped; none of its code is run.

Where the weights do not fit as float32 they stay mapped as they are stored. Logits are still computed in
float32, a module's weights being widened for as long as it works; answers are given in the stored type, since
widening all of them for each token would take most of the time.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from verify.limits import available_memory
from verify.runtimes._canonical import Canonical
from verify.runtimes._causal import CausalModel
from verify.runtimes._weights import as_qwen2, quantised_by, read_config, read_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verify.runtimes import Settings

OPTIONS = {"dtype": ("auto", "float32", "streamed", "stored"), "device": None, "tokenizer": None}
# The share of spare memory that float32 weights may take; the rest is for activations and the cache.
SHARE = 0.6


def suits(folder: Path) -> bool:
    """Is this a checkpoint, and none that GPTQModel made?"""
    is_checkpoint = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    return is_checkpoint and quantised_by(folder) is None


def preload() -> dict[str, str]:
    """Import the natives."""
    import torch  # noqa: PLC0415  (in the child only)
    import transformers  # noqa: PLC0415
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, DynamicCache, PreTrainedModel  # noqa: F401, PLC0415

    transformers.logging.disable_progress_bar()
    return {"torch": str(torch.__version__), "transformers": str(transformers.__version__)}


def open_runtime(path: str, settings: Settings) -> Transformers:
    """Open a checkpoint folder; options.tokenizer names the one with its tokenizer.json, if another."""
    return Transformers(Path(path), settings)


class Transformers(CausalModel):
    """The source's model; what does not fit as float32 stays mapped."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        import torch  # noqa: PLC0415  (in the child only)

        dtype, device = _options(settings)
        torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
        config = read_config(folder)
        tokenizer = Canonical(Path(settings.options.get("tokenizer", folder)), config)
        model, self._is_streamed = _open_model(folder, config, dtype)
        super().__init__(model.to(device), tokenizer, device)
        self._is_wide = False
        if self._is_streamed:
            self._widen_while_working()
        stored = str(model.dtype).removeprefix("torch.")
        notes = {
            "weights": stored,
            "logits": "float32" if self._is_streamed else stored,
            "offload": "mapped from disk" if self._is_streamed else "none",
            "threads": str(torch.get_num_threads()),
        }
        self.info = self.describe("transformers", settings, notes)

    @contextmanager
    def _working(self) -> Iterator[None]:
        self._is_wide = self._is_streamed
        try:
            yield
        finally:
            self._is_wide = False

    def _widen_while_working(self) -> None:
        """Give a module float32 weights while it works; an embedding's rows are few, and widened after."""
        torch = self._torch
        stored: dict[Any, Any] = {}

        def before(module: Any, _: Any) -> None:
            if self._is_wide:
                for parameter in module.parameters(recurse=False):
                    stored[parameter] = parameter.data
                    parameter.data = parameter.data.float()

        def after(module: Any, _: Any, __: Any) -> None:
            for parameter in module.parameters(recurse=False):
                if parameter in stored:
                    parameter.data = stored.pop(parameter)

        def widened(_: Any, __: Any, out: Any) -> Any:
            return out.float() if self._is_wide else out

        for module in self._model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.register_forward_hook(widened)
            elif next(module.parameters(recurse=False), None) is not None:
                module.register_forward_pre_hook(before)
                module.register_forward_hook(after)


def _open_model(folder: Path, config: dict[str, Any], dtype: str) -> tuple[Any, bool]:
    """The model with its weights, and whether they stay mapped while float32 is wanted."""
    import torch  # noqa: PLC0415
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING  # noqa: PLC0415

    model_type = str(config.get("model_type"))
    weights = read_weights(folder, model_type)
    if model_type == "qwen":
        config = as_qwen2(config)
    if config["model_type"] not in CONFIG_MAPPING:
        raise Failure(
            f"{folder}: Transformers has no model_type {model_type!r}, and code from a repo is never run"
        )
    if dtype == "auto":
        needed = 4 * sum(tensor.numel() for tensor in weights.values())
        dtype = "float32" if needed < SHARE * available_memory() else "streamed"
    stored = next(iter(weights.values())).dtype
    made = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    model, found = MODEL_FOR_CAUSAL_LM_MAPPING[type(made)].from_pretrained(
        None,
        config=made,
        state_dict=weights,
        dtype=torch.float32 if dtype == "float32" else stored,
        output_loading_info=True,
    )
    if missing := sorted(found["missing_keys"]):
        raise Failure(f"{folder}: {len(missing)} weights are missing, {missing[0]} among them")
    return model.eval(), dtype == "streamed" and stored != torch.float32


def _options(settings: Settings) -> tuple[str, str]:
    given = dict(settings.options)
    if unknown := set(given) - set(OPTIONS):
        raise Failure(
            f"transformers: no such option: {', '.join(sorted(unknown))}", f"it has {', '.join(OPTIONS)}"
        )
    dtype = str(given.get("dtype", "auto"))
    if dtype not in (known := OPTIONS["dtype"] or ()):
        raise Failure(f"transformers: dtype {dtype!r} is none of {', '.join(known)}")
    return dtype, str(given.get("device", "cpu"))
