"""The packages that only some formats and runtimes need, and the extra that installs each."""

from dataclasses import dataclass
from pathlib import Path

from convert.errors import Failure


@dataclass(frozen=True)
class Package:
    """A package that `pip install modelwright` leaves out."""

    module: str
    distribution: str
    extra: str

    @property
    def hint(self) -> str:
        """Write the command that installs it."""
        command = f"pip install 'modelwright[{self.extra}]'"
        # Anything looser brings several GB of CUDA packages.
        return f"install torch==2.13.0 first, then: {command}" if self.extra in NEED_TORCH else command


class MissingPackage(Failure):
    """A package that is not installed, and the extra that brings it."""


# For CUDA 13; what else brings the module `cupy` is the user's own affair.
CUPY = "cupy-cuda13x"
NEED_TORCH = frozenset({"gptq", "verify"})
PACKAGES = (
    Package("llama_cpp", "llama-cpp-python", "gguf"),
    Package("llvmlite", "llvmlite", "fast"),
    Package("numba", "numba", "fast"),
    Package("onnx", "onnx", "onnx"),
    Package("cupy", CUPY, "cuda"),
    Package("cupyx", CUPY, "cuda"),
    Package("gptqmodel", "GPTQModel", "gptq"),
    Package("pyarrow", "pyarrow", "parquet"),
    Package("cryptography", "cryptography", "sign"),
    Package("mlx", "mlx", "mlx"),
    Package("mlx_lm", "mlx-lm", "mlx"),
    Package("ctranslate2", "ctranslate2", "ctranslate2"),
    Package("bitsandbytes", "bitsandbytes", "baselines"),
    Package("torchao", "torchao", "baselines"),
    Package("compressed_tensors", "compressed-tensors", "verify"),
    Package("ray", "ray", "fleet"),
    Package("lm_eval", "lm-eval", "eval"),
    Package("onnxruntime", "onnxruntime", "verify"),
    Package("onnxruntime_genai", "onnxruntime-genai", "verify"),
    Package("openvino", "openvino", "openvino"),
    Package("openvino_genai", "openvino-genai", "openvino"),
    Package("peft", "peft", "verify"),
    Package("safetensors", "safetensors", "verify"),
    Package("torch", "torch", "verify"),
    Package("transformers", "transformers", "verify"),
    Package("xllamacpp", "xllamacpp", "serve"),
)


def installed(distribution: str) -> str:
    """Return the version of a package; a Failure names the extra where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - 20 ms

    try:
        return version(distribution)
    except PackageNotFoundError:
        raise missing(distribution) or ModuleNotFoundError(distribution) from None


def require(module: str) -> Path:
    """Return the folder of a package, without importing it; a Failure names the extra where it is missing."""
    import importlib.util  # noqa: PLC0415 - the same

    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise missing(module) or ModuleNotFoundError(module)
    return Path(spec.origin).parent


def missing(name: str) -> MissingPackage | None:
    """Say how to install a package, by its own name or a module of it; None for one that no extra brings."""
    for package in PACKAGES:
        if name == package.distribution or name.split(".", maxsplit=1)[0] == package.module:
            return MissingPackage(f"{package.distribution} is not installed", package.hint)
    return None
