"""Our sandbox renders chat templates as Transformers does, word by word, and refuses what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import TemplateError

from convert.child.sandbox import TODAY, render
from convert.errors import Failure
from convert.tokenizer.special import read_config_files
from convert.tokenizer.template import find_template
from tests.tokenizer.chat_templates import CHATS, DOCUMENT_LIST, TEMPLATES, TOOLS
from tests.tokenizer.vocabularies import new_folder

MARKUP = {"bos_token": "<s>", "eos_token": "</s>"}


def theirs(template: str, chat: list[dict[str, Any]], **settings: Any) -> str | None:
    """What Transformers renders on the sandbox's day; None where the template refuses."""
    from transformers.utils import chat_template_utils  # noqa: PLC0415  (seconds to import)

    class Day:
        @staticmethod
        def now() -> Any:
            return TODAY

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_template_utils, "datetime", Day)
        try:
            rendered, _ = chat_template_utils.render_jinja_template(
                [chat], chat_template=template, **settings
            )
        except (TemplateError, TypeError):
            return None
    return str(rendered[0])


def ours(template: str, chat: list[dict[str, Any]], **settings: Any) -> str | None:
    """The same, from the sandbox."""
    try:
        return render(template, chat, markup=MARKUP, **settings)
    except Failure:
        return None


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_of_newer_families_render_as_in_transformers(name: str) -> None:
    template = TEMPLATES[name]
    rendered = set()
    for chat in CHATS.values():
        for asks in (True, False):
            for given in ({}, {"tools": TOOLS}, {"documents": DOCUMENT_LIST}):
                expected = theirs(template, chat, add_generation_prompt=asks, **MARKUP, **given)
                assert ours(template, chat, add_generation_prompt=asks, **given) == expected
                rendered.add(expected)
    assert rendered == {None} if name == "private" else len(rendered) > 5


@pytest.mark.parametrize("name", TEMPLATES)
def test_they_are_found_and_parsed(name: str) -> None:
    folder = new_folder()
    (folder / "chat_template.jinja").write_text(TEMPLATES[name], "utf-8")
    assert find_template(folder, "llama", read_config_files(folder, {})) == TEMPLATES[name]
