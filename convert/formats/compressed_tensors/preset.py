"""The schemes as data: what config.json says of each, and the codec that stores a matrix so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from convert.formats.compressed_tensors.options import GROUPED, MIXED, CompressedTensorsOptions, Scheme
from convert.writer.codecs.compensated import Searched
from convert.writer.codecs.compressed import BITS, Compressed, Element, Scale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.writer.codecs import Codec
    from convert.writer.codecs.minifloat import Float

# Of the library whose layout this is.
LAYOUT_VERSION = "0.20.0"
# As QuantizationArgs names what scales of one byte are stored in.
SCALE_DTYPES: dict[Scale, str] = {"E8M0": "torch.uint8", "E4M3": "torch.float8_e4m3fn"}
# The names of a matrix's planes, without and with its codes packed, as the library's compressors have them.
PLAIN, PACKED = "weight", "weight_packed"


@dataclass(frozen=True)
class Preset:
    """A scheme of compressed_tensors/quantization/quant_scheme.py."""

    name: str  # there
    format: str
    element: Element
    columns: int = 0  # that share a scale; 0: the whole row
    rows: int = 1
    scale: Scale = "FLOAT"
    is_packed: bool = False
    is_symmetric: bool = True
    activations: Literal["", "token", "group"] = ""  # what shares a scale that is found while it runs
    activation_columns: int | None = None
    is_searched: bool = False

    @property
    def codes(self) -> str:
        """Name the tensor of the codes."""
        return PACKED if self.is_packed or self.element == "FP4" else PLAIN

    @property
    def least_columns(self) -> int:
        """Say by how many the columns of a matrix must divide; blocks of several rows are filled up."""
        return self.columns if self.rows == 1 and self.columns else 1

    def codec(self, float_name: Float, global_scale: float = 1.0) -> Codec:
        """Return what encodes a matrix of such floats."""
        stored = self.stored(float_name, global_scale)
        return Searched(stored) if self.is_searched else stored

    def stored(self, float_name: Float, global_scale: float = 1.0) -> Compressed:
        """Return how a matrix of such floats is stored."""
        return Compressed(
            self.element,
            float_name,
            columns=self.columns,
            rows=self.rows,
            scale=self.scale,
            is_packed=self.is_packed,
            is_symmetric=self.is_symmetric,
            global_scale=global_scale,
        )

    def weights(self) -> dict[str, Any]:
        """Write QuantizationArgs of the weights."""
        said = self._numbers()
        if self.rows > 1:
            return {**said, "strategy": "block", "block_structure": [self.rows, self.columns]}
        strategy = "tensor_group" if self.scale == "E4M3" else "group" if self.columns else "channel"
        return {**said, "strategy": strategy, "group_size": self.columns or None}

    def inputs(self) -> dict[str, Any] | None:
        """Write QuantizationArgs of the activations, which are rounded while the model runs."""
        if not self.activations:
            return None
        dynamic = {"dynamic": True, "strategy": self.activations, "group_size": self.activation_columns}
        return {**self._numbers(), "symmetric": True, **dynamic}

    def _numbers(self) -> dict[str, Any]:
        kind = "float" if self.element in ("FP8", "FP4") else "int"
        said = {
            "num_bits": BITS[self.element],
            "type": kind,
            "symmetric": self.is_symmetric,
            "dynamic": False,
            "group_size": None,
        }
        return {**said, "scale_dtype": SCALE_DTYPES[self.scale]} if self.scale in SCALE_DTYPES else said


PRESETS: dict[Scheme, Preset] = {
    Scheme.FP8: Preset("FP8_DYNAMIC", "float-quantized", "FP8", activations="token"),
    Scheme.FP8_BLOCK: Preset(
        "FP8_BLOCK", "float-quantized", "FP8", 128, 128, activations="group", activation_columns=128
    ),
    Scheme.W8A8: Preset("W8A8", "int-quantized", "INT8", activations="token"),
    Scheme.W4A16: Preset("W4A16", "pack-quantized", "INT4", 128, is_packed=True),
    Scheme.W8A16: Preset("W8A16", "pack-quantized", "INT8", 128, is_packed=True),
    Scheme.NVFP4A16: Preset("NVFP4A16", "nvfp4-pack-quantized", "FP4", 16, scale="E4M3"),
    Scheme.MXFP4: Preset(
        "MXFP4", "mxfp4-pack-quantized", "FP4", 32, scale="E8M0", activations="group", activation_columns=32
    ),
    Scheme.MXFP8: Preset(
        "MXFP8", "mxfp8-quantized", "FP8", 32, scale="E8M0", activations="group", activation_columns=32
    ),
}


def preset_of(options: CompressedTensorsOptions, target: str) -> Preset:
    """Find the preset of a target; where a budget decides, the coarsest that it may choose."""
    return _grouped(options, options.scheme_of(target) or MIXED[0])


def mixable(options: CompressedTensorsOptions) -> dict[Scheme, Preset]:
    """List the presets that a budget chooses among."""
    return {scheme: _grouped(options, scheme) for scheme in MIXED}


def _grouped(options: CompressedTensorsOptions, scheme: Scheme) -> Preset:
    """Take the groups that the recipe asks for."""
    preset = replace(PRESETS[scheme], is_searched=options.is_searched(scheme))
    if scheme not in GROUPED:
        return preset
    name = preset.name if options.symmetric else f"{preset.name}_ASYM"
    return replace(preset, name=name, columns=max(0, options.group_size), is_symmetric=options.symmetric)


def quantization_config(groups: Mapping[Preset, Sequence[str]], ignore: Sequence[str]) -> dict[str, Any]:
    """Write the section of config.json, as llmcompressor's `model_free_ptq` does, for groups of modules."""
    preset = next(iter(groups))
    return {
        "version": LAYOUT_VERSION,
        "quant_method": "compressed-tensors",
        "transform_config": {},
        "config_groups": {
            each.name: {
                "targets": list(targets),
                "weights": each.weights(),
                "input_activations": each.inputs(),
                "output_activations": None,
                "format": each.format,
            }
            for each, targets in groups.items()
        },
        "kv_cache_scheme": None,
        "format": preset.format,
        "quantization_status": "compressed",
        "global_compression_ratio": None,
        "ignore": list(ignore),
        "moe_sparsity_config": None,
    }
