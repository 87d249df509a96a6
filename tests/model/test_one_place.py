"""A family is one file: its name occurs nowhere else, and a format is one folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from convert.model.families import family, supported

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ROOT / "convert" / "model" / "families"
SOURCES = [
    path
    for package in ("convert", "verify")
    for path in sorted((ROOT / package).rglob("*"))
    if path.suffix in (".py", ".j2", ".yaml") and path.parent != FAMILIES
]
# Names of llama.cpp, its programs, its Python class and its vocabularies; a repo that serves as an example.
NOT_OURS = re.compile(
    r"[Ll]lama[-_. ]?cpp\w*|llama-[a-z-]+|import Llama\b|\bLlama\.from_pretrained|\bLlama\("
    r'|(BYTES|SCORES|MERGES) = "\w+"|Qwen/Qwen[\w.-]*|Qwen-7B-Chat|qwen-7b-chat|"[\w.]+_merger"'
)
EXEMPT = {
    "convert/tokenizer/splitter.py": "llama.cpp's names for ways to split text, which families share",
    "convert/tokenizer/imitation.py": "the same",
    "convert/calibration/packs/searchqa-en.yaml": "a stone",
    "convert/publish/card/license.py": "the Hub's names of licenses",
}


def names() -> list[str]:
    classes = [name for model_type in supported() for name in family(model_type).classes]
    spelled = [
        re.sub(r"(?<=[a-z])(?=\d)", "-", model_type) for model_type in supported()
    ]  # as people write them
    return [*supported(), *spelled, *classes]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_family_is_named_outside_its_file(path: Path) -> None:
    if str(path.relative_to(ROOT)) in EXEMPT:
        return
    named = re.compile(rf"\b({'|'.join(map(re.escape, names()))})\b", re.IGNORECASE)
    found = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if named.search(NOT_OURS.sub("", line))
    ]
    assert not found, f"{path}: say it by a feature, or in the family's file: {found}"
