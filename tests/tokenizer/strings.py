"""Two thousand and more strings, the same on every run, of every kind that splits tokenizers apart."""

from __future__ import annotations

import random
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ENGLISH_TEXT = (
    "The solar system has eight planets, and Pluto isn't one of them. I've said it, you'd said it, we'll see "
    "they're sure she's right, and I'm not. DON'T SHOUT: I'LL LISTEN, YOU'VE WON, HE'S LATE. A rock-hard, "
    'state-of-the-art answer (or so it seems) costs $12.50/kg — isn\'t that "cheap"? Naïve café owners '
    "co-operate… internationalisation, antidisestablishmentarianism, supercalifragilistic words"
)
ENGLISH = tuple(_ENGLISH_TEXT.split())
CHINESE = (
    "使用以下提供的资料来回答最后的问题。如果无法从中获得答案，请直接回答不知道。太阳系有八大行星：水星、金星、地球、"
    "火星、木星、土星、天王星和海王星！“为什么？”《三体》是刘慈欣写的（2008年）；我想在apple工作1314151天～"
    "繁體字與簡體字、日本語のテキスト、한국어 텍스트"
)
CODE = (
    "def f(x: int) -> str:\n    return f'{x:>8}'\n",
    "for (int i = 0; i < n; ++i) {\n\ta[i] = b[i] * 2;\n}\n",
    "#include <stdio.h>\r\nint main(void) { return 0; }\r\n",
    "SELECT * FROM t WHERE a >= 10 AND b != 'x';",
    '{"key": [1, 2.5, null], "nested": {"a": true}}',
    '<div class="row">&nbsp;</div><!-- ok -->',
    "if [[ $? -ne 0 ]]; then exit 1; fi",
    "let x = vec![1u8; 32]; // bytes\n\n\n",
    "    @property\n    def name(self):\n        return self._name\n",
    "\\begin{equation} e^{i\\pi} + 1 = 0 \\end{equation}",
    "https://example.org/a/b?c=d&e=%20f#g",
    "x=+-*/%^&|~!<>?:;.,@#$`'\"()[]{}\\",
)  # fmt: skip
EMOJI = ("🚀", "😶‍🌫️", "👩‍👩‍👧‍👦", "🇨🇳🇩🇪", "✅", "❤️", "👍🏽", "🦙🦙", "☕", "©️", "１２３", "½", "²", "Ⅷ", "①")
SCRIPTS = (
    "нещо на Български език",
    "كيف حالك اليوم؟",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "កាន់តែពិសេសអាច",
    "Γειά σου Κόσμε",
    "tiếng Việt có dấu",
    "Здравствуй, мир! Ёлка",
    "İstanbul'da ıspanak",
    "straße, œuvre, ﬁne, Ǆungla",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𠜎𠜱",
)
SPACES = (
    " ",
    "  ",
    "   ",
    "    ",
    "\t",
    "\t\t",
    "\n",
    "\n\n",
    "\r\n",
    "\r\n\r\n",
    " \n",
    "\n ",
    " \t\n",
    "        ",
)
BLANKS = ("\u00a0", "\u3000", "\u2003", "\u2028", "\u000b", "\u000c", "\u200b", "\u0085", "\u1680")
SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|extra_0|>", "<|eot_id|>", "<|begin_of_text|>", "<s>",
    "</s>", "<unk>", "<0x0A>", "[PAD1]", "<start_of_turn>", "<b>", "[multimodal]", "<|im_start|>user\n",
    "<|im_end|>\n", "<|im_", "im_end|>", "<|", "|>", "[INST]",
)  # fmt: skip


def all_strings() -> dict[str, list[str]]:
    """Kind → strings; every string is in NFC, and nothing in it depends on the machine."""
    seeded = random.Random(20261121)
    numbers = ("3", "14", "159", ".", ",", " ", "-", "e", "年", "%")
    written = (*SPECIALS, "a", " ", "你好", "\n", "<")
    kinds = {
        "english": [" ".join(_some(seeded, ENGLISH, 1, 12)) for _ in range(260)],
        "chinese": [_slice(seeded, CHINESE, 1, 40) for _ in range(320)],
        "code": [*CODE, *("".join(_some(seeded, CODE, 1, 3)) for _ in range(160))],
        "emoji": ["".join(_some(seeded, (*EMOJI, " ", "a", "ok"), 1, 8)) for _ in range(200)],
        "scripts": [*SCRIPTS, *(_slice(seeded, seeded.choice(SCRIPTS), 1, 30) for _ in range(240))],
        "spaces": [*(" " * n for n in range(1, 70)), *("".join(_spaced(seeded)) for _ in range(320))],
        "digits": ["".join(_some(seeded, "0123456789", 1, 14)) for _ in range(160)],
        "numbers": ["".join(_some(seeded, numbers, 2, 9)) for _ in range(160)],
        "specials": [*SPECIALS, *("".join(_some(seeded, written, 1, 6)) for _ in range(240))],
        "mixed": ["".join(_mixed(seeded)) for _ in range(320)],
        "bytes": [chr(code) for code in range(1, 256)],
        "empty": [""],
    }
    return {kind: [unicodedata.normalize("NFC", text) for text in texts] for kind, texts in kinds.items()}


def not_nfc() -> list[str]:
    """Text that normalisation changes."""
    return [
        "e\u0301te\u0301",
        "A\u030angstro\u0308m",
        "\u1112\u1161\u11ab\u1100\u1173\u11af",
        "Vie\u0323\u0302t",
    ]


def _some(seeded: random.Random, choices: Sequence[str], low: int, high: int) -> list[str]:
    return [seeded.choice(choices) for _ in range(seeded.randint(low, high))]


def _slice(seeded: random.Random, text: str, low: int, high: int) -> str:
    start = seeded.randrange(len(text))
    return text[start : start + seeded.randint(low, high)]


def _spaced(seeded: random.Random) -> Iterator[str]:
    for _ in range(seeded.randint(1, 6)):
        yield "".join(_some(seeded, SPACES if seeded.random() < 0.85 else BLANKS, 1, 4))
        yield seeded.choice(("", "a", "word", "1", ".", "中", "'s", "=="))


def _mixed(seeded: random.Random) -> Iterator[str]:
    pools = (ENGLISH, CODE, EMOJI, SCRIPTS, SPACES, SPECIALS, CHINESE, "0123456789'\".,")
    for _ in range(seeded.randint(2, 7)):
        yield seeded.choice(seeded.choice(pools))
