"""GPTQModel itself, in the child: torch and the like are imported here and nowhere else."""

import ctypes
import gc
import importlib
import importlib.metadata
import inspect
import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from convert.checkpoint import open_checkpoint
from convert.child.channel import Channel, Header
from convert.errors import Failure
from convert.quantizer.job import MODEL, OFFLOAD, RESULT, take_over

TORCH_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float32"}
TOOLS = ("GPTQModel", "torch", "transformers", "safetensors")


def serve(channel: Channel) -> Callable[[str, Header], Header]:
    """Answer in the child: run an engine, `module:function`, on a folder."""

    def answer(engine: str, args: Header) -> Header:
        module, _, function = engine.partition(":")
        run_engine = getattr(importlib.import_module(module), function)
        return dict(run_engine(Path(args["work"]), lambda share: channel.send({"part": True, **share})))

    return answer


def run(work: Path, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Quantize the model in `work`, and leave there what GPTQModel writes."""
    asked, windows = take_over(work)
    # What the packages define stays to the end: a collection that looked through all of it again at each
    # layer, and over and over while it is imported, would cost a tenth of the time of a small model.
    gc.disable()
    import gptqmodel  # noqa: PLC0415
    import torch  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    random.seed(asked["seed"])
    np.random.seed(asked["seed"])
    torch.manual_seed(asked["seed"])
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    device = _device(asked["device"], has_cuda=torch.cuda.is_available())
    model = _load(work, asked, device)
    turn_by_layer(model)
    model.layer_callback = model.subset_callback = Steps(_layer_count(work), report)
    model.quantize(
        [{"input_ids": window} for window in windows],
        batch_size=1,
        # In the order given: another would change sums in their last bits.
        calibration_sort=None,
        calibration_data_min_length=0,
        # AWQ's default is a kernel for GPUs; the portable one writes the same format.
        **({"backend": gptqmodel.BACKEND.AWQ_TORCH} if asked["method"] == "awq" else {}),
    )
    model.save(str(work / RESULT))
    report({"share": 1.0})
    return {
        "matrices": [_quantized(entry) for entry in model.quant_log],
        "device": f"cuda: {torch.cuda.get_device_name()}" if device == "cuda" else "cpu",
        "tools": {name: importlib.metadata.version(name) for name in TOOLS},
    }


def turn_by_layer(quantizing: Any) -> None:
    """Give each layer its own rotary positions: GPTQModel replays all layers with those of the first."""
    model = quantizing.model
    rotary = next(
        (
            module
            for _, module in model.named_modules()
            if "layer_type" in inspect.signature(module.forward).parameters and hasattr(module, "layer_types")
        ),
        None,
    )
    if rotary is None:
        return
    prepare = quantizing.prepare_layer_replay_kwargs

    def refresh(layer: Any, layer_input: Any, additional_inputs: dict[str, Any], target_device: Any) -> Any:
        """Turn as the model does before it calls a layer."""
        inputs = prepare(layer, layer_input, additional_inputs, target_device)
        attention = getattr(layer, "self_attn", None)
        if attention is None or "position_ids" not in inputs:
            return inputs
        kind = model.config.get_text_config().layer_types[attention.layer_idx]
        turned = rotary(layer_input[0], inputs["position_ids"], kind)
        return {**inputs, "position_embeddings": tuple(each.to(target_device) for each in turned)}

    quantizing.prepare_layer_replay_kwargs = refresh


class Steps:
    """Turns GPTQModel's events into the share that is done; forward passes and solving count the same."""

    def __init__(self, layer_count: int, report: Callable[[dict[str, Any]], None]) -> None:
        self._layer_count = layer_count
        self._report = report

    def layer_complete(self, *, submodule_finalized: bool, **_: object) -> None:
        """Give back a layer's memory: glibc would keep it in pieces, more with each layer."""
        if not submodule_finalized:  # its packed matrices are yet to be written
            return
        gc.collect()
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)

    def subset_event(
        self, *, stage: str, layer_idx: int, subset_index: int, subset_total: int, **_: object
    ) -> None:
        """Report that matrices which share an input were measured, or solved."""
        steps = {"forward_end": 0.5, "quant_complete": 1.0}
        if stage in steps:
            within = (subset_index + steps[stage]) / subset_total
            # Writing the result is the last hundredth.
            self._report({"share": 0.99 * (layer_idx + within) / self._layer_count, "layer": layer_idx})


def _device(asked: str, *, has_cuda: bool) -> str:
    if asked == "cuda" and not has_cuda:
        raise Failure("the recipe asks for cuda, and torch sees no GPU", "write device: cpu, or device: auto")
    return "cuda" if has_cuda and asked != "cpu" else "cpu"


def _load(work: Path, asked: dict[str, Any], device: str) -> Any:
    import torch  # noqa: PLC0415
    from gptqmodel import GPTQModel  # noqa: PLC0415
    from gptqmodel.quantization.config import AWQConfig, Fallback, GPTQConfig  # noqa: PLC0415

    shared = {
        **{name: asked[name] for name in ("bits", "group_size", "desc_act", "sym")},
        "device": device,
        "offload_to_disk": True,
        "offload_to_disk_path": str(work / OFFLOAD),
        # To round wherever few tokens came by would be a silent loss: only where none did, and it is said.
        "fallback": Fallback(threshold=1) if asked["may_round"] else None,
        # The other ways of packing compile an extension first, half a minute each time, for the same bytes.
        "pack_impl": "original",
        # One layer's packed matrices are on disk before the next is read: less memory, and one order.
        "wait_for_submodule_finalizers": True,
    }
    if asked["method"] == "gptq":
        damp = {} if asked["damp"] is None else {"damp_percent": asked["damp"]}
        # What an order by activation gains, in an order that costs a runtime nothing; of whole groups.
        is_group_aware = not asked["desc_act"] and asked["group_size"] > 0
        config: Any = GPTQConfig(**shared, **damp, act_group_aware=is_group_aware)
    else:
        config = AWQConfig(**shared)
    # As it is stored: GPTQModel's own choice on a CPU is bfloat16, whatever the source has.
    dtype = getattr(torch, _dtype(work / MODEL))
    return GPTQModel.load(str(work / MODEL), config, dtype=dtype, trust_remote_code=False)


def _dtype(folder: Path) -> str:
    """Find the dtype that most of the weights are stored in."""
    sizes: dict[str, int] = {}
    with open_checkpoint(folder) as checkpoint:
        for info in checkpoint.tensors.values():
            name = TORCH_DTYPES.get(info.dtype)
            if name is None:
                raise Failure(f"{info.name}: {info.dtype} cannot be quantized", "convert it to bf16 first")
            sizes[name] = sizes.get(name, 0) + info.size_bytes
    return max(sizes, key=lambda name: (sizes[name], name))


def _layer_count(work: Path) -> int:
    config = json.loads((work / MODEL / "config.json").read_text("utf-8"))
    return int(config.get("num_hidden_layers") or config["n_layer"])


def _quantized(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"{entry['layer']}.{entry['module']}",
        "loss": _number(entry.get("loss")),
        "damp": _number(entry.get("damp")),
        "is_rounded": "fallback" in str(entry.get("loss")),
    }


def _number(text: object) -> float | None:
    try:
        return float(str(text))
    except ValueError:
        return None
