"""Docstrings begin with a verb, and the words are those that any reader of English knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = tuple(
    sorted(
        path.relative_to(ROOT).as_posix()
        for folder, patterns in {
            "convert": ("*.py", "*.j2"),
            "verify": ("*.py", "*.j2", "*.css"),
            **dict.fromkeys(("tests/lab", "tests/tiny_models", "tests/hub"), ("*.py",)),
        }.items()
        for pattern in patterns
        for path in (ROOT / folder).rglob(pattern)
    )
)

# First words that no imperative begins with; verbs in other forms (reads, reading) go by their ending.
_NO_VERBS = """
a after all also an and another any are as at be because before both but by characters could did do does
each either every everything first five for four from had has have here how however if in into is it its
just last like many more most my names no nobody none nor not nothing of on one only or other our ours out
plain safetensors shall should since so some somebody something than that the their them then there these
they this those three thus to two under until was were what whatever when where whether which while who
whoever whom whose why will with within without would yes you your
attention biases bytes columns commands config cosines dialogues digests final folders free greedy
held-out ids json keys letters lists materials matrices natural norms number numbers offline online onnx
parts passed paths percent perplexity queries questions quoted real roles rotary rows shares short slow
special symmetric text texts token tokens weight weights words yaml
"""
NO_VERBS = frozenset(_NO_VERBS.split())
_VERBS_BY_ENDING = "bring ping string embed exceed feed need proceed seed shed speed"
VERBS_BY_ENDING = frozenset(_VERBS_BY_ENDING.split())
VERBS_IN_S = re.compile(r".*(ss|us|as)")  # pass, focus, bias

# What the house said, where English has an ordinary word, and the spelling of one field: the American.
DIALECT = re.compile(
    r"\b(stands?|standing|stood|told|tells|telling|anew|beside|otherwise than|held against|vouch(ed|es)?"
    r"|of its own|nought|whither|lest|hitherto|whence)\b"
    r"|licence|quantis|normalis|tokenis|behaviour|colour|\bcentre|\bgrey|recognis|initialis|serialis|optimis(e|a)"
    r"|organis|materialis|neighbour|favour|\b(spelt|learnt)\b",
    re.IGNORECASE,
)
# Words that are not ours to choose, by file: each with the reason.
ALLOWED: dict[str, dict[str, str]] = {
    "tests/lab/facts.py": dict.fromkeys(("neighbour", "told"), "training text, which decides the vocabulary"),
    "convert/store/manifest.py": {"licence": "the key in manifests of the first schema"},
    "convert/tokenizer/pretokenizer.py": {"told": "llama.cpp's check text, word for word"},
}


def fault_of(docstring: str) -> str | None:
    """Say what is wrong with the beginning of a function's docstring, or nothing."""
    first = docstring.split(maxsplit=1)[0].rstrip(",:;.!?")
    word = first.lower()
    if not re.fullmatch(r"[A-Z][a-z]+(-[a-z]+)*", first):
        return f"begins with {first!r}, which is no capitalized verb"
    if word in NO_VERBS:
        return f"begins with {first!r}"
    is_other_form = word.endswith(("ing", "ed")) or (word.endswith("s") and not VERBS_IN_S.fullmatch(word))
    if is_other_form and word not in VERBS_BY_ENDING:
        return f"begins with {first!r}, which is no imperative"
    return None


@pytest.mark.parametrize("path", [path for path in SOURCES if path.endswith(".py")])
def test_docstrings_of_functions_begin_with_a_verb(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    faults = []
    for node in ast.walk(tree):
        # What a test's docstring says is a fact, not an order.
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("test_"):
            docstring = ast.get_docstring(node)
            if docstring and (fault := fault_of(docstring)):
                faults.append(f"{path}:{node.lineno}: {node.name}: the docstring {fault}")
    assert not faults, "\n".join(["begin with what it does: Return, Read, Refuse…", *faults])


@pytest.mark.parametrize("path", SOURCES)
def test_words_are_ordinary(path: str) -> None:
    faults = []
    for number, line in enumerate((ROOT / path).read_text("utf-8").splitlines(), 1):
        # Names too: snake_case and CamelCase are taken apart.
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", line.replace("_", " "))
        faults += [
            f"{path}:{number}: {found[0]!r}"
            for found in DIALECT.finditer(words)
            if found[0] not in ALLOWED.get(path, {})
        ]
    assert not faults, "\n".join(["say it with an ordinary word, in American spelling:", *faults])


def test_lists_name_what_is_there() -> None:
    for path, words in ALLOWED.items():
        text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", (ROOT / path).read_text("utf-8").replace("_", " "))
        for word, reason in words.items():
            assert word in text, f"{path} no longer says {word!r}: take it out of ALLOWED"
            assert reason


@pytest.mark.parametrize(
    ("docstring", "is_sound"),
    [
        ("Return the rows.", True),
        ("Pass it on.", True),
        ("Bring the file.", True),
        ("Re-read the file.", True),
        ("Open, read and close.", True),
        ("The rows.", False),
        ("Returns the rows.", False),
        ("Reading rows.", False),
        ("Whether it is read.", False),
        ("`rows` as they are.", False),
        ("llama.cpp's way.", False),
    ],
)
def test_what_counts_as_a_verb(docstring: str, *, is_sound: bool) -> None:
    assert (fault_of(docstring) is None) == is_sound
