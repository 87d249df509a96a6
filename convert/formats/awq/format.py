"""AWQ, by GPTQModel."""

from convert.formats.gptq.gptqmodel import GptqModelFormat

FORMAT = GptqModelFormat("awq", revision=2)
