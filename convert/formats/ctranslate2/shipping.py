"""How CTranslate2's folders are shipped."""

from convert.formats.shipping import Guide, Shipping

SHIPPING = Shipping(
    label="CTranslate2",
    suffix="CT2-{quantization}",
    weights=r".*model\.bin",
    tags=("ctranslate2",),
    library="ctranslate2",
    guides=(Guide("ctranslate2/ctranslate2"),),
    favorite="int8",
)
