"""GPTQ and AWQ by GPTQModel, in an isolated child that gets our checkpoint and our calibration windows.

`quantize` takes a canonical folder and leaves weights and configuration, and nothing else; what was learned
on the way comes back as an `Outcome`.
"""

from convert.quantizer.job import Job, Matrix, Method, Outcome, Quantized, refusal
from convert.quantizer.run import quantize

__all__ = ["Job", "Matrix", "Method", "Outcome", "Quantized", "quantize", "refusal"]
