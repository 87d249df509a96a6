"""Whether a model's matrices can be cut into the groups and words that a recipe asks for."""

from collections.abc import Sequence

from convert.formats.gptq.options import GROUP_SIZES
from convert.model.decoder import Decoder
from convert.quantizer import Matrix
from convert.recipe import Recipe
from convert.recipe.reader import refuse_at

WORD_BITS = 32


def require_fit(method: str, bits: int, group_size: int, quantized: Sequence[Matrix], recipe: Recipe) -> None:
    """Refuse, with the recipe's line, before a download what would fail after it."""
    where = ("targets", method, "group_size")
    sizes = sorted({matrix.columns for matrix in quantized})
    fitting = [size for size in GROUP_SIZES if size > 0 and not any(columns % size for columns in sizes)]
    hint = f"use {_listed([*map(str, fitting), '-1, a whole row'] if fitting else ['-1, a whole row'])}"
    if group_size > 0 and (left := [columns for columns in sizes if columns % group_size]):
        refuse_at(recipe, where, f"{group_size} does not divide {left[0]}", hint)
    if group_size not in GROUP_SIZES:
        refuse_at(recipe, where, f"{group_size} is a group size that runtimes have no kernels for", hint)
    per_word = WORD_BITS // bits
    for matrix in quantized:
        for count, what in ((matrix.rows, "rows"), (matrix.columns, "columns")):
            if count % per_word:
                refuse_at(
                    recipe,
                    ("targets", method),
                    f"{matrix.name} has {count} {what}, and {per_word} weights of {bits} bits make a word",
                    f"leave {method} out: another format can hold this model",
                )


def require_windows(decoder: Decoder, longest: int, recipe: Recipe) -> None:
    """Refuse samples longer than windows that only some layers have.

    GPTQModel calls all layers with the first one's mask; on shorter samples all masks are the same.
    """
    windows = {layer.attention.window for layer in decoder.kinds if layer.attention}
    least = min((size for size in windows if size), default=None)
    if least is not None and len(windows) > 1 and longest > least:
        refuse_at(
            recipe,
            ("calibration", "length"),
            f"{longest} tokens are more than the windows of {least} that only some layers have",
            f"write length: {least}, for GPTQModel has one mask for all layers",
        )


def _listed(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
