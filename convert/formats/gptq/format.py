"""GPTQ, by GPTQModel."""

from convert.formats.gptq.gptqmodel import GptqModelFormat

FORMAT = GptqModelFormat("gptq", revision=2)
