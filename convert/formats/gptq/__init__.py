"""GPTQ: weights in groups of few bits, each column made to answer for the errors of those before it."""

from convert.formats import Format
from convert.formats.gptq.options import GptqOptions
from convert.formats.gptq.work import Quantisation

FORMAT: Format = Quantisation("gptq", GptqOptions)
