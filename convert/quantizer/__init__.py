"""GPTQ and AWQ by GPTQModel, in a process of its own: fed our checkpoint and our windows, tidied after.

`quantize` takes a canonical folder and leaves weights and configuration beside nothing else; what it learnt
on the way comes back as an `Outcome`.
"""

from convert.quantizer.job import Job, Method, Outcome, Treated, refusal, require
from convert.quantizer.run import quantize

__all__ = ["Job", "Method", "Outcome", "Treated", "quantize", "refusal", "require"]
