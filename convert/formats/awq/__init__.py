"""AWQ: weights in groups of few bits, columns scaled so that what the activations dwell on loses least."""

from convert.formats import Format
from convert.formats.gptq.format import Quantisation
from convert.formats.gptq.options import AwqOptions

FORMAT: Format = Quantisation("awq", AwqOptions)
