"""The chat template: found and parsed, but never run."""

from pathlib import Path

from convert.child.sandbox import environment
from convert.errors import Failure
from convert.model.families import family
from convert.tokenizer.file import BROKEN, Json, read_object, read_text
from convert.tokenizer.special import ConfigFiles


def find_template(folder: Path, model_type: str, files: ConfigFiles) -> str | None:
    """Find the template that the source's tokenizer uses, or none for a model that does not chat."""
    name, value = _find(folder, files)
    if value is None:
        is_raw = files.generation.get("chat_format") == "raw"
        return None if is_raw else family(model_type).tokenizer.chat_template
    text = _default(value, name)
    _check(text, name)
    return text


def _find(folder: Path, files: ConfigFiles) -> tuple[str, Json]:
    """Return the first template in Transformers' order, and the file that has it."""
    if (folder / "chat_template.jinja").is_file():
        # A template's line ends are those of text files everywhere.
        text = read_text(folder / "chat_template.jinja").replace("\r\n", "\n").replace("\r", "\n")
        return "chat_template.jinja", text
    value = files.tokenizer.get("chat_template")
    if value is None and (folder / "chat_template.json").is_file():
        return "chat_template.json", read_object(folder / "chat_template.json").get("chat_template")
    return "tokenizer_config.json", value


def _default(value: Json, name: str) -> str:
    """Return the template named "default" if there are several."""
    if isinstance(value, str):
        return value
    named = value
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        named = {entry.get("name"): entry.get("template") for entry in value}
    if isinstance(named, dict) and isinstance(named.get("default"), str):
        return str(named["default"])
    raise Failure(f"{name}: chat_template is neither a text nor a list with one named 'default'", BROKEN)


def _check(text: str, name: str) -> None:
    """Parse the template as Transformers does, without running it."""
    from jinja2 import TemplateError  # noqa: PLC0415  (not needed for models without a template)

    try:
        environment().compile(text)  # parsing alone lets a break outside of every loop pass
    except SyntaxError as fault:
        raise Failure(f"{name}: chat_template: {str(fault.msg)[:80]}", BROKEN) from None
    except TemplateError as fault:
        line = getattr(fault, "lineno", 1)
        raise Failure(f"{name}: chat_template, line {line}: {fault.message}", BROKEN) from None
    except RecursionError:
        raise Failure(f"{name}: chat_template is nested too deeply", BROKEN) from None
