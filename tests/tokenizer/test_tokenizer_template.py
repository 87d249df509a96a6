"""The chat template: which file wins, what Qwen-1 gets, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from convert.errors import Failure
from convert.tokenizer.special import read_config_files
from convert.tokenizer.template import find_template
from tests.tokenizer.test_tokenizer_agreement import loaded
from tests.tokenizer.vocabularies import write_json

if TYPE_CHECKING:
    from pathlib import Path


def find(folder: Path, model_type: str = "llama") -> str | None:
    """The template that the files of a folder give."""
    return find_template(folder, model_type, read_config_files(folder, {}))


def test_files_win_in_transformers_order(tmp_path: Path) -> None:
    write_json(tmp_path / "chat_template.json", {"chat_template": "third"})
    assert find(tmp_path) == "third"
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": "second"})
    assert find(tmp_path) == "second"
    (tmp_path / "chat_template.jinja").write_bytes(b"first\r\n")
    assert find(tmp_path) == "first\n"


@pytest.mark.parametrize(
    "value",
    [
        [{"name": "rag", "template": "no"}, {"name": "default", "template": "yes"}],
        {"rag": "no", "default": "yes"},
    ],
)
def test_of_several_the_default_is_taken(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": value})
    assert find(tmp_path) == "yes"


@pytest.mark.parametrize("value", [[{"name": "rag", "template": "no"}], {"rag": "no"}, ["yes"], 7])
def test_several_without_a_default(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": value})
    with pytest.raises(Failure, match=r"tokenizer_config\.json: chat_template is neither"):
        find(tmp_path)


def test_a_broken_template_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ fine }}\n{% for m in messages %}\n{% endif %}\n")
    with pytest.raises(Failure, match=r"chat_template\.jinja: chat_template, line 3: .*endif"):
        find(tmp_path)


def test_tags_of_transformers_are_no_fault(tmp_path: Path) -> None:
    text = "{% for m in messages %}{% generation %}{{ m }}{% endgeneration %}{% break %}{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(text)
    assert find(tmp_path) == text


def test_a_template_is_not_run(tmp_path: Path) -> None:
    text = "{{ (range(10**9) | list | length) ~ ''.__class__.__mro__[1].__subclasses__() }}"
    (tmp_path / "chat_template.jinja").write_text(text)
    assert find(tmp_path) == text


def test_qwen_1_lays_turns_out_as_its_own_code_does() -> None:
    template = loaded("small-qwen").chat_template
    assert template is not None
    turns = [
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "你好！"},
        {"role": "user", "content": "再见"},
    ]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    # qwen_generation_utils.py, make_context
    assert environment.from_string(template).render(messages=turns, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n你好！<|im_end|>\n"
        "<|im_start|>user\n再见<|im_end|>\n<|im_start|>assistant\n"
    )
    system = [{"role": "system", "content": "short"}, turns[0]]
    assert environment.from_string(template).render(messages=system) == (
        "<|im_start|>system\nshort<|im_end|>\n<|im_start|>user\n你好<|im_end|>\n"
    )


def test_only_a_qwen_that_chats_gets_one(tmp_path: Path) -> None:
    assert find(tmp_path, "gpt2") is None
    assert find(tmp_path, "qwen") is not None
    write_json(tmp_path / "generation_config.json", {"chat_format": "raw"})
    assert find(tmp_path, "qwen") is None
