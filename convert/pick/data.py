"""Data files of `pick`: machines, GPUs and runtimes, each a YAML file, shipped or a person's own."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from convert.errors import UsageFailure
from convert.recipe.document import Fault, Value
from convert.recipe.explain import did_you_mean, explain
from convert.recipe.reader import read_mapping, refuse
from convert.recipe.strict import Strict

SHIPPED = Path(__file__).parent
Model = TypeVar("Model", bound=Strict)


def _check_source(source: str) -> str:
    if not source.strip():
        raise ValueError("say where the figure comes from")
    return source


class Figure(Strict):
    """A number and where it comes from."""

    value: float = Field(ge=0, description="The number.", examples=[24])
    source: Annotated[str, AfterValidator(_check_source)] = Field(
        description="Where it comes from.", examples=["the maker's data sheet"]
    )


def own_folder(kind: str) -> Path:
    """Return the folder of a person's own files of a kind."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "modelwright" / kind


def named(kind: str) -> dict[str, Path]:
    """List the files of a kind by name; a person's own hides a shipped one."""
    found: dict[str, Path] = {}
    for folder in (own_folder(kind), SHIPPED / kind):
        for file in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
            found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def load(kind: str, word: str, model: type[Model], name: str) -> Model:
    """Read the file of that name, or at that path; every fault in it is named."""
    files = named(kind)
    path = files.get(name)
    if path is None and (name.endswith((".yaml", ".yml")) or "/" in name):
        path = Path(name)
    if path is None:
        listed = f"there are {', '.join(files)}; your own go to {own_folder(kind)}/"
        raise UsageFailure(f"no {word} is called {name}", did_you_mean(name, files, listed))
    return read(path, word, model)


def read(path: Path, word: str, model: type[Model]) -> Model:
    """Read one file; what it does not say it takes from the file next to it that `like:` names."""
    _, document, value = read_mapping(path, word, "`title:`", "`title: my own`")
    faults: list[Fault] = list(document.faults)
    try:
        found = model.model_validate_json(json.dumps(_filled(path, word, value)))
    except ValidationError as error:
        faults += explain(error, document, model)
    if faults:
        refuse(path, sorted(faults, key=lambda fault: fault.line))
    return found


def _filled(path: Path, word: str, value: dict[str, Value]) -> dict[str, Value]:
    other = value.get("like")
    if not isinstance(other, str):
        return value
    near = path.with_name(f"{other}.yaml")
    base = near if near.is_file() else SHIPPED / path.parent.name / near.name
    _, _, filled = read_mapping(base, word, "`title:`", "`title: my own`")
    return {**filled, **{key: each for key, each in value.items() if key != "like"}}


def read_json(name: str) -> dict[str, Any]:
    """Read a shipped JSON file."""
    found: dict[str, Any] = json.loads((SHIPPED / name).read_text("utf-8"))
    return found
