"""CTranslate2: what `ct2-transformers-converter` writes, variable by variable, without it or torch."""

import math
from collections.abc import Iterable

from convert.formats.base import Format, Planned, Weight
from convert.formats.ctranslate2 import companions
from convert.formats.ctranslate2.model_file import MOST_BYTES, Entry, codec_of, entries, lay_out
from convert.formats.ctranslate2.options import PREFIX, CTranslate2Options, Quantization
from convert.formats.ctranslate2.variables import numbers, tensors
from convert.formats.hf.format import OWN_NAMES, promised_type
from convert.formats.hf.tensors import KEPT_AS, Float
from convert.model.decoder import Decoder
from convert.model.families import family
from convert.model.feature import Feature
from convert.model.source import Model
from convert.recipe import Recipe
from convert.recipe.reader import refuse_at
from convert.size import size


class CTranslate2Format(Format[CTranslate2Options, Float]):
    """One folder for each way to store weights; what is shared is the type that the source promises."""

    name = "ctranslate2"
    REVISION = 1
    RENDERS: frozenset[Feature] = frozenset()  # each family of its converter has its own

    def renders(
        self, decoder: Decoder, options: CTranslate2Options | None = None
    ) -> frozenset[Feature] | None:
        """Express what the converter's loader of the family sets, and the runtime computes."""
        return found.renders if (found := family(decoder.family).ctranslate2) else None

    def prepare(self, model: Model, options: CTranslate2Options, recipe: Recipe) -> Float:
        """Refuse variables whose length the file has no number for."""
        source = promised_type(model)
        for quantization in options.quantization:
            found = _entries(model.decoder, quantization, source)
            if long := next((each for each in found if each.size_bytes > MOST_BYTES), None):
                refuse_at(
                    recipe,
                    ("targets", self.name, "quantization"),
                    f"{long.name} takes {size(long.size_bytes)} as {quantization}, and CTranslate2's file "
                    "has no room for more than 4 GiB",
                    "take int8, or another format",
                )
        return source

    def lay_out(self, model: Model, options: CTranslate2Options, target: str, prepared: Float) -> Planned:
        """Plan the file of variables, and write the small ones."""
        decoder, quantization = model.decoder, _quantization(target)
        dtype, has_int8 = _dtype(quantization, prepared), quantization.has_int8
        found = _entries(decoder, quantization, prepared)
        layout = lay_out(found, dtype, has_int8=has_int8, is_tied=decoder.is_tied)
        return Planned(
            target,
            (layout,),
            files=companions.files(model),
            encodings={slot.name: slot.codec.name for slot in layout.slots},
        )

    def weigh(
        self, decoder: Decoder, options: CTranslate2Options, target: str, native: str
    ) -> Iterable[Weight] | None:
        """Count every variable of weights."""
        quantization = _quantization(target)
        dtype = _dtype(quantization, KEPT_AS.get(native, "F32"))
        codecs = ((each, codec_of(each, dtype, has_int8=quantization.has_int8)) for each in tensors(decoder))
        return [
            Weight(
                each.pieces[0].ref,
                sum(codec.row_bytes(each.pieces[0].columns)) * each.shape[0],
                math.prod(each.shape),
                codec,
            )
            for each, codec in codecs
        ]


def _quantization(target: str) -> Quantization:
    return Quantization(target.removeprefix(PREFIX))


def _dtype(quantization: Quantization, source: Float) -> Float:
    return OWN_NAMES[quantization.dtype] if quantization.dtype else source


def _entries(decoder: Decoder, quantization: Quantization, source: Float) -> list[Entry]:
    dtype = _dtype(quantization, source)
    return entries(numbers(decoder), tensors(decoder), dtype, has_int8=quantization.has_int8)


FORMAT = CTranslate2Format()
