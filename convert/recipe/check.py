"""The checks of a recipe's values: names, paths and what must be there."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from convert.recipe.explain import brief, did_you_mean
from convert.recipe.lookup import expand_home, is_dir, is_file

# Packs that verification and calibration know by name; verification also takes paths.
Pack = Literal["searchqa", "lessonpack"]

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./+-]{0,249}", re.ASCII)
_PLACEHOLDERS = ("user", "model", "target")


def wrong(what: str, hint: str) -> PydanticCustomError:
    """Return the error that a validator raises, with the message and the hint that users see."""
    return PydanticCustomError("recipe", "{what}", {"what": what, "hint": hint})


def spelled(names: type[StrEnum]) -> BeforeValidator:
    """Take a name in capitals or small letters, whichever it has."""
    known = {each.value.lower(): each.value for each in names}

    def read(given: object) -> object:
        is_text = isinstance(given, str) and not isinstance(given, names)
        return known.get(str(given).lower(), given) if is_text else given

    return BeforeValidator(read)


def one_or_more(kind: type[StrEnum]) -> BeforeValidator:
    """Take one value as a list of one."""

    def read(given: object) -> object:
        return tuple(given) if isinstance(given, list | tuple) else (given,)

    return BeforeValidator(read, json_schema_input_type=kind | tuple[kind, ...])  # type: ignore[valid-type]


def local_folder(model: str, base: Path) -> Path | None:
    """Return the folder that `model` names, seen from the recipe's folder; None for a Hub repo."""
    folder = expand_home(model)
    folder = folder if folder.is_absolute() else base / folder
    is_path = model.startswith((".", "/", "~"))
    return folder if is_path or is_dir(folder) else None


def _path_hint(path: Path, base: Path) -> str:
    if str(path).startswith(("/", "~")):
        return "check the path; one that starts with / or ~ is used unchanged"
    return f"paths are relative to the recipe's folder, {base.absolute()}"


def check_model(model: str, info: ValidationInfo) -> str:
    """Check that a model is a Hub repo or a folder that is there."""
    base = _base(info)
    if base is None:
        return model  # its meaning depends on where the recipe is
    folder = local_folder(model, base)
    # The Hub reserves these words, so such a name can only be meant as a folder.
    is_meant_as_folder = folder or model.split("/", maxsplit=1)[0] in ("models", "datasets", "spaces")
    if is_meant_as_folder and not (folder and is_dir(folder)):
        raise wrong(f"there is no folder {model}", _path_hint(Path(model), base))
    if folder:
        return model
    if "://" in model:
        name = model.split("://", 1)[1].split("/", 1)[-1]
        raise wrong("a URL is not a repo name", f"write it as owner/name: {'/'.join(name.split('/')[:2])}")
    return check_repo_id(model)


def check_repo_id(repo: str) -> str:
    """Check that a name is one of a Hub repo."""
    if not _REPO_ID.fullmatch(repo) or ".." in repo or "--" in repo or repo.endswith((".git", ".", "-")):
        hint = "write owner/name as on the Hub, e.g. Qwen/Qwen-7B-Chat, or a local folder as ./folder"
        raise wrong(f"{brief(repo)} is neither a Hub repo nor a folder", hint)
    return repo


def check_revision(revision: str) -> str:
    """Check that a revision can be one."""
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise wrong(f"{brief(revision)} cannot be a revision", "name a branch, a tag or a commit, e.g. main")
    return revision


def check_file(path: Path, info: ValidationInfo) -> Path:
    """Check that a file is there."""
    base = _base(info)
    if base and not is_file(base / expand_home(path)):
        raise wrong(f"there is no file {path}", _path_hint(path, base))
    return path


def check_scenario(name: str, info: ValidationInfo) -> str:
    """Check that a scenario is known, or a file."""
    known = get_args(Pack)
    if name in known:
        return name
    if not name.endswith((".yaml", ".yml")):
        listed = f"write {', '.join(known)} or the path of a pack, e.g. packs/mine.yaml"
        raise wrong(f"{brief(name)} is not known", did_you_mean(name, known, listed))
    check_file(Path(name), info)
    return name


def check_task(name: str, info: ValidationInfo) -> str:
    """Check that a task is a name, or a file that is there."""
    if name.endswith((".yaml", ".yml")):
        check_file(Path(name), info)
    elif not re.fullmatch(r"[\w.,:+-]+", name):
        raise wrong(f"{brief(name)} is no task's name", "write e.g. arc_easy, or tasks/mine.yaml")
    return name


def check_template(repo: str) -> str:
    """Check that a template makes a repo name."""
    unknown = [name for name in re.findall(r"\{([^{}]*)\}", repo) if name not in _PLACEHOLDERS]
    if unknown:
        raise wrong(f"{{{unknown[0]}}} has no meaning here", "use {user}, {model} and {target}")
    filled = re.sub(r"\{[^{}]*\}", "x", repo)
    if not _REPO_ID.fullmatch(filled):
        raise wrong(f"{brief(repo)} does not make a repo name", 'write e.g. "{user}/{model}-{target}"')
    return repo


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a value that is given twice (a validator)."""
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise wrong(f"{', '.join(twice)} twice", "name each once")
    return values


def _base(info: ValidationInfo) -> Path | None:
    return info.context.get("base") if info.context else None


def check_servers(given: str | dict[str, str] | None) -> str | dict[str, str] | None:
    """Check that servers are names."""
    for name in given.values() if isinstance(given, dict) else [given] if given is not None else []:
        if not name.replace("-", "_").isidentifier():
            raise wrong(f"{brief(name)} is not a server", "write e.g. llama-server or vllm")
    return given


def check_runtimes(given: str | dict[str, str] | None, info: ValidationInfo) -> str | dict[str, str] | None:
    """Check that runtimes are names, or Python files that are there."""
    for name in given.values() if isinstance(given, dict) else [given] if given is not None else []:
        if name.endswith(".py"):
            check_file(Path(name), info)
        elif not name.isidentifier():
            raise wrong(
                f"{brief(name)} is not a runtime", "write e.g. llama_cpp, or the path of a Python file"
            )
    return given
