"""GPTQ: weights in groups of few bits, each column made to answer for the errors of those before it."""

from convert.formats import Format
from convert.formats.gptq.format import Quantisation
from convert.formats.gptq.options import GptqOptions

FORMAT: Format = Quantisation("gptq", GptqOptions)
