"""Recipe files: read, validated, and refused with every mistake at once."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from convert.errors import Failure, UsageFailure, UsageFailures
from convert.recipe.check import local_folder
from convert.recipe.document import MAX_TEXT_BYTES, Document, DocumentError, Fault, Value, Where, parse
from convert.recipe.explain import explain
from convert.recipe.lookup import find
from convert.recipe.model import Contents, Recipe
from convert.recipe.strict import Strict, TargetOptions

NO_TEXT = "needs a calibration text, but the recipe has none"
ADD_TEXT = "add e.g. calibration: {packs: [searchqa, lessonpack]}"


class _Targets(Strict):
    """The formats to convert to, with their options."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})


def load(path_or_name: str | Path, formats: Mapping[str, type[TargetOptions]]) -> Recipe:
    """Read the recipe in a file, or of that name in recipes/; UsageFailures names every fault in it."""
    path = find(path_or_name)
    raw, document, value = read_mapping(
        path, "recipe", "`model:` and `targets:`", "`model: Qwen/Qwen-7B-Chat`"
    )
    return _validated(path, raw, document, value, formats)


def load_text(text: str, path: Path, formats: Mapping[str, type[TargetOptions]]) -> Recipe:
    """Read a recipe that a command wrote, as if it were in the file `path`."""
    raw = text.encode("utf-8")
    document = parse(raw)
    value = document.value if isinstance(document.value, dict) else {}
    return _validated(path, raw, document, value, formats)


def _validated(
    path: Path,
    raw: bytes,
    document: Document,
    value: dict[str, Value],
    formats: Mapping[str, type[TargetOptions]],
) -> Recipe:
    model = _file_model(formats)
    value = _in_full(value, formats)
    faults = list(document.faults)
    try:
        read = model.model_validate_json(json.dumps(value), context={"base": path.parent})
    except ValidationError as error:
        faults += explain(error, document, model)
    faults += _across(document, value, formats, path.parent)
    if faults:
        refuse(path, sorted(faults, key=lambda fault: fault.line))

    given: dict[str, Any] = {key: getattr(read, key) for key in read.model_fields_set}
    targets = {
        name: getattr(given["targets"], name) for name in formats if name in given["targets"].model_fields_set
    }
    return Recipe(**{**given, "targets": targets}, name=path.stem, path=path, text=raw.decode("utf-8"))


def _in_full(value: Mapping[str, Value], formats: Mapping[str, type[TargetOptions]]) -> dict[str, Value]:
    """Take `gguf: [Q4_K_M]` and `onnx: int4` for what they can only mean."""
    targets = value.get("targets")
    if not isinstance(targets, dict):
        return dict(value)
    full: dict[str, Value] = {}
    for name, given in targets.items():
        short = formats[name].short if name in formats else None
        is_word = isinstance(given, str | int) and not isinstance(given, bool)
        if short and (is_word or (short.is_list and isinstance(given, list))):
            listed = [given] if short.is_list and is_word else given
            full[name] = {short.key: listed}
        else:
            full[name] = given
    return {**value, "targets": full}


def read_mapping(path: Path, kind: str, keys: str, example: str) -> tuple[bytes, Document, dict[str, Value]]:
    """Read a YAML file that holds a mapping, such as a recipe; `kind` and `keys` are for messages."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        is_denied = isinstance(error, PermissionError)
        hint = "check its permissions (`ls -l`)" if is_denied else f"name a YAML file with a {kind}"
        raise UsageFailure(f"{path}: cannot be read: {why}", hint) from error
    try:
        document = parse(raw, kind, keys)
    except DocumentError as error:
        refuse(path, [error.fault])
    if not isinstance(document.value, dict):
        what = f"a {kind} is a mapping of keys to values"
        refuse(path, [Fault(document.line(()), (), what, f"start with e.g. {example}")])
    return raw, document, document.value


def json_schema(formats: Mapping[str, type[TargetOptions]]) -> dict[str, Any]:
    """Return the JSON schema by which editors complete and check recipes."""
    schema = _file_model(formats).model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _file_model(formats: Mapping[str, type[TargetOptions]]) -> type[BaseModel]:
    """Build the model of a recipe file for these formats."""
    fields: dict[str, Any] = {
        name: (
            options,
            Field(
                default=None,
                json_schema_extra=_leave_out_default,
                description=(options.__doc__ or name).split("\n")[0],
            ),
        )
        for name, options in formats.items()
    }
    targets = create_model("Targets", __base__=_Targets, __doc__=_Targets.__doc__, **fields)
    described = Field(description="The formats to build.", examples=[{"gguf": {"quants": ["Q4_K_M"]}}])
    return create_model("Recipe", __base__=Contents, __doc__=Contents.__doc__, targets=(targets, described))


def _leave_out_default(schema: dict[str, Any]) -> None:
    """Leave the default out of the schema: a target may be absent, but not null."""
    schema.pop("default", None)


def _named_for_formats(verify: Value) -> Iterable[tuple[str, str]]:
    """List the formats for which `verify` names a runtime or a server."""
    for key in ("runtime", "serve"):
        given = verify.get(key) if isinstance(verify, dict) else None
        yield from ((key, name) for name in (given if isinstance(given, dict) else ()))


def _across(
    document: Document, value: Mapping[str, Value], formats: Mapping[str, type[TargetOptions]], base: Path
) -> Iterable[Fault]:
    """Check keys against each other, on the raw values, so that other faults do not hide these."""
    model = value.get("model")
    if "revision" in value and isinstance(model, str) and local_folder(model, base):
        where: Where = ("revision",)
        yield Fault(document.line(where), where, "a local folder has no revisions", "remove this line")
    for key, name in _named_for_formats(value.get("verify")):
        if name not in formats:
            where = ("verify", key, name)
            yield Fault(document.line(where), where, "unknown format", f"known formats: {', '.join(formats)}")
    transform = value.get("transform")
    if isinstance(transform, dict) and transform.get("scales") and value.get("calibration") is None:
        where = ("transform", "scales")
        yield Fault(document.line(where), where, NO_TEXT, ADD_TEXT)
    targets = value.get("targets")
    if "targets" in value and not targets and isinstance(targets, dict):
        where = ("targets",)
        yield Fault(document.line(where), where, "is empty", "write e.g. targets: {gguf: {quants: [Q4_K_M]}}")
    for name, given in targets.items() if isinstance(targets, dict) else ():
        if name not in formats or value.get("calibration") is not None:
            continue
        try:
            options = formats[name].model_validate_json(json.dumps(given), context={"base": base})
        except ValidationError:
            continue  # reported already
        if options.learns_by is not None:
            where = ("targets", name, options.learns_by) if options.learns_by else ("targets", name)
            yield Fault(document.line(where), where, NO_TEXT, ADD_TEXT)


def refuse(path: Path, faults: Iterable[Fault]) -> NoReturn:
    """Raise every fault of a file, each with its line."""
    raise UsageFailures([Failure(_line(path, fault), fault.hint) for fault in faults])


def refuse_at(recipe: Recipe, where: Where, what: str, hint: str) -> NoReturn:
    """Raise a fault of a recipe that only its model shows, with its line."""
    refuse(recipe.path, [Fault(parse(recipe.text.encode()).line(where), where, what, hint)])


def _line(path: Path, fault: Fault) -> str:
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{_key(step)}" for step in fault.where)
    return f"{path}:{fault.line}: {where[1:] + ': ' if where else ''}{fault.what}"


def _key(key: str) -> str:
    """Show a key on one line."""
    return key if key.isprintable() and len(key) <= 60 else repr(key[:57] + "...")
