"""llama.cpp's own splitting by name, and texts on which a tokenizer is compared with it.

src/llama-vocab.cpp has the expressions. Each piece that one expression leaves is split by the next.
"""

import json
from functools import cache
from typing import TYPE_CHECKING

from convert.model.splitting import BY_CASE_CONTRACTED, ONE_DIGIT
from convert.tokenizer.encoder import open_encoder
from convert.tokenizer.splitter import (
    EXPRESSION_OF_STEP,
    KNOW_ONLY_ASCII_CASE,
    NAMES_OF_STEPS,
    PUNCTUATED,
    Steps,
)

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

    from convert.tokenizer.file import Json

# Names for one and the same splitting.
_LIKE = {
    "gpt-2": "phi-2 gigachat a.x-4.0 mellum exaone4 olmo jais trillion granite-docling",
    "smollm": "starcoder refact command-r codeshell exaone minerva-7b mellum2",
    "qwen2": "deepseek-r1-qwen kormo f2llmv2 stablelm2 hunyuan solar-open megrez grok-2",
    "llama-bpe": "smaug-bpe dbrx chatglm-bpe glm4 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
    "deepseek-v3": "hunyuan-dense joyai-llm hy_v4",
    "bloom": "poro-chat gpt3-finnish",
    "gpt-4o": "llama4 kanana2 talkie minimax-m2",
    "bailingmoe": "bailingmoe2",
    "tiny_aya": "cohere2moe",
}
_AS = {name: first for first, names in _LIKE.items() for name in names.split()}
# A whole word that is a token is taken as it is, whether merges make it or not.
_SKIPPING = "minicpm5 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 youtu glm4 tekken"
SKIP_MERGES = frozenset(_SKIPPING.split())
_GREEK_AND_LATIN = (
    r"A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅ"
    r"ὐ-ὗὙὛὝὟ-\x{1f7d}ᾀ-ᾴᾶ-ᾼ\x{1fbe}ῂ-ῄῆ-ῌῐ-\x{1fd3}ῖ-\x{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212a}-"
    r"ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
_CHINESE_AND_JAPANESE = "[一-龥぀-ゟ゠-ヿ]+"
# What comes before a number keeps its first digits, until later expressions part them.
_FROM_THE_RIGHT = r"\P{N}*\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"
_ASIAN = (
    r"[一-鿿㐀-䶿\x{8c48}-\x{faff}぀-ゟ゠-ヿ･-ﾟ⼀-⿟\x{e40}-\x{e7f}\x{e80}-\x{eff}\x{1780}-\x{17ff}"
    r"\x{1000}-\x{109f}\x{aa60}-\x{aa7f}\x{a9e0}-\x{a9ff}가-\x{d7af}\x{1100}-\x{11ff}]+"
)
# Names that no published steps here have, so that only a digest leads to them.
_FURTHER: dict[str, Steps] = {
    "deepseek-llm": (
        r"[\r\n]", rf"\s?[{_GREEK_AND_LATIN}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$",
        "[一-龥ࠀ-一가-퟿]+", r"\p{N}+",
    ),
    "spark2_5": (
        r"\p{N}{1,3}", _CHINESE_AND_JAPANESE,
        PUNCTUATED.replace(r"[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|", r"[\p{P}\p{S}]+|[\r\n]|"), r"\p{N}",
    ),
    "youtu": (
        f"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|{_CHINESE_AND_JAPANESE}",
        BY_CASE_CONTRACTED.replace(r"\p{N}{1,3}", r"\p{N}"),
    ),
    "viking": (r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"),
    "tiny_aya": (_FROM_THE_RIGHT, BY_CASE_CONTRACTED),
    "superbpe": (r"\p{N}+", r"(?=(\d{3})+(?!\d))"),
    "afmoe": (_FROM_THE_RIGHT, _ASIAN, PUNCTUATED),
    "laguna": (r"[^\n]+|[\n]+", ONE_DIGIT),
    "kimi-k2": (
        r"\p{Han}+|"
        + BY_CASE_CONTRACTED.replace(r"[\r\n/]*", r"[\r\n]*").replace(r"\p{M}]", r"\p{M}&&[^\p{Han}]]"),
    ),
}  # fmt: skip
_STEPS = {name: steps for steps, names in NAMES_OF_STEPS.items() for name in names if name} | _FURTHER

TEXTS = (
    "\n\n1",
    "\n1\n\n22\n\n\n333",
    "In 1969, 3 of 12345 cost $1,234.56.",
    "1 22 333 4444 55555 1234567",
    "v2.0.1-rc3",
    "3.14159e-10",
    "a1b22c333",
    "x = 10\n\n\ny = 20",
    "  two  spaces   three    four",
    "\t\tone\ttwo\n\t three",
    "ends with spaces   ",
    "line\r\nline\r\n\r\nline",
    " \n \n\n  \n",
    "I'm sure they'll say it's ours; we've DON'T",
    "'quoted' \"words\" (and) [more] {here}",
    "HelloWorld camelCase snake_case SCREAMING_CASE",
    "def f(x):\n    return x**2  # square\n\n\nclass A:\n    pass\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i]; }\n",
    '{"key": [1, 2.5, null]}',
    '<p class="a">text</p>',
    "https://example.org/a/b?c=1&d=2",
    "a--b...c!!! ?? ::",
    "使用以下提供的资料来回答最后的问题。",
    "太阳系有8大行星，2008年。",
    "日本語のテキスト、カタカナ123",
    "한국어 텍스트 45",
    "Здравствуй, мир! 2024",
    "كيف حالك اليوم؟ ١٢٣",
    "Γειά σου Κόσμε",
    "naïve café, straße",
    "tiếng Việt có dấu",
    "🚀 rocket ✅ done",
    "½ ² Ⅷ ①",
    "नमस्ते दुनिया 12",
    "สวัสดีชาวโลก",
)
_ASCII_TEXTS = tuple(text for text in TEXTS if text.isascii())


def expressions(name: str) -> Steps:
    """Return the expressions by which llama.cpp splits text under a name."""
    steps = _STEPS[_AS.get(name, name)]
    return tuple(EXPRESSION_OF_STEP.get(step, step) for step in steps)


def split_differently(pre_tokenizer: "Json", name: str) -> tuple[str, ...]:
    """List our own texts that llama.cpp, under this name, splits in other places than a tokenizer does."""
    content = {**json.loads(_EMPTY), "pre_tokenizer": pre_tokenizer}
    theirs = open_encoder(json.dumps(content).encode()).pre_tokenizer
    ours = _imitation(expressions(name))
    texts = _ASCII_TEXTS if name in KNOW_ONLY_ASCII_CASE else TEXTS
    return tuple(text for text in texts if ours.pre_tokenize_str(text) != theirs.pre_tokenize_str(text))


_EMPTY = '{"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}'


@cache
def _imitation(steps: Steps) -> "PreTokenizer":
    from tokenizers import Regex, pre_tokenizers  # noqa: PLC0415  (not needed for planning)

    splits = [pre_tokenizers.Split(Regex(step), behavior="isolated") for step in steps]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([*splits, last])
