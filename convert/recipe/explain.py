"""Pydantic's errors in the terms of the YAML file: where, what is wrong, and what to write instead."""

import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from convert.recipe.document import Document, Fault, Where

_KINDS = {
    "string_type": "text",
    "path_type": "a path",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "model_type": "a mapping of options",
    "model_attributes_type": "a mapping of options",
    "dict_type": "a mapping of options",
    "mapping_type": "a mapping of options",
}


def explain(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Fault]:
    """Turn pydantic's errors into faults, one for each place in the file."""
    faults: dict[Where, Fault] = {}
    for details in error.errors(include_url=False):
        where = _where(details, document)
        if any(where[: len(fault.where)] == fault.where for fault in document.faults if fault.where):
            continue  # already reported: the value could not even be read
        if details["type"] == "too_short" and details["input"]:
            continue  # already reported: its items were refused, so pydantic counts none
        what, hint = _words(details, where, document, model)
        faults[where] = Fault(document.line(where), where, what, hint)  # the last of a union's is the widest
    return list(faults.values())


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Find the known word that was probably meant."""
    lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else None


def did_you_mean(word: object, known: Iterable[str], otherwise: str) -> str:
    """Put the known word that was probably meant before the rest of a hint."""
    guess = nearest(word, known) if isinstance(word, str) else None
    return f"did you mean {guess}? {otherwise}" if guess else otherwise


def _where(details: ErrorDetails, document: Document) -> Where:
    """Find the path in the file: pydantic's, without the names that it gives to the members of a union."""
    where: Where = ()
    for step in details["loc"]:
        if (*where, step) in document.lines:
            where = (*where, step)
    if details["type"] == "missing":
        where = (*where, details["loc"][-1])
    return where


def _keys(details: ErrorDetails, model: type[BaseModel]) -> Where:
    """Find the path in the model, which is longer than the file's for what is in short: `onnx: int4`."""
    keys: Where = ()
    for step in details["loc"]:
        parent = _model(model, keys)
        if isinstance(step, int) or (parent and step in parent.model_fields):
            keys = (*keys, step)
    return keys


def _words(
    details: ErrorDetails, where: Where, document: Document, model: type[BaseModel]
) -> tuple[str, str]:
    kind, context, given = details["type"], details.get("ctx", {}), details["input"]
    field = _field(model, _keys(details, model))
    match kind:
        case "recipe":
            words = context["what"], context["hint"]
        case "missing":
            words = "is missing", _example(where, field)
        case "extra_forbidden":
            words = _unknown_key(where, model)
        case "enum" | "literal_error":
            words = _not_one_of(given, field)
        case "too_short":
            words = "is empty", _example(where, field)
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            words = f"{brief(given)} is out of bounds", _bound(context)
        case _ if kind in _KINDS:
            words = _wrong_kind(kind, given, document.spelling.get(where), where, field)
        case _:
            words = " ".join(details["msg"].split()), _example(where, field)
    return words


def _bound(context: Mapping[str, Any]) -> str:
    signs = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    return next(
        f"write a number {words} {context[sign]:g}" for sign, words in signs.items() if sign in context
    )


def _unknown_key(where: Where, model: type[BaseModel]) -> tuple[str, str]:
    key = str(where[-1])
    parent = _model(model, where[:-1])
    known = sorted(parent.model_fields) if parent else []
    if where[:-1] == ("targets",):
        return "unknown format", did_you_mean(key, known, f"known formats: {', '.join(known)}")
    return "unknown key", did_you_mean(key, known, f"known here: {', '.join(known)}")


def _not_one_of(given: object, field: FieldInfo | None) -> tuple[str, str]:
    known = _choices(field.annotation) if field else []
    return f"{brief(given)} is not known", did_you_mean(given, known, f"one of {', '.join(known)}")


def _wrong_kind(
    kind: str, given: object, spelling: str | None, where: Where, field: FieldInfo | None
) -> tuple[str, str]:
    wanted = _KINDS[kind]
    if given is None and not spelling:
        return f"is empty, but must be {wanted}", _example(where, field)
    if wanted in ("text", "a path") and spelling is not None:
        read = {bool: "true or false", type(None): "nothing"}.get(type(given), "a number")
        return f"{spelling} is read as {read}, but must be text", f'put it in quotes: "{spelling}"'
    if kind == "bool_type":
        return f"must be true or false, not {brief(given)}", "write true or false, without quotes"
    if wanted.endswith("number") and isinstance(given, str):
        return f"{brief(given)} is text, but must be {wanted}", "write digits, without quotes or units"
    if kind == "tuple_type" and isinstance(given, str):
        return f"must be a list, not {brief(given)}", f"put it in brackets: [{given[:40]}]"
    return f"must be {wanted}, not {brief(given)}", _example(where, field)


def _example(where: Where, field: FieldInfo | None) -> str:
    key = next((step for step in reversed(where) if isinstance(step, str)), "")
    if field and field.examples:
        return f"write e.g. {key}: {_flow(field.examples[0])}"
    if field and field.description:
        return field.description
    return "see recipes/schema.json for the keys of a recipe"


def _flow(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    text = str(value)
    return json.dumps(text) if "{" in text else text


def brief(value: object) -> str:
    """Show a value of a recipe on one short line."""
    kind = {dict: "a mapping", list: "a list", type(None): "nothing", bool: str(value).lower()}.get(
        type(value)
    )
    text = kind or (repr(value) if isinstance(value, str) else str(value))
    return text if len(text) <= 60 else text[:57] + "..."


def _field(model: type[BaseModel], where: Where) -> FieldInfo | None:
    """Find the field that a path leads to; an item of a list has its list's."""
    while where and isinstance(where[-1], int):
        where = where[:-1]
    parent = _model(model, where[:-1]) if where else None
    return parent.model_fields.get(str(where[-1])) if parent else None


def _model(model: type[BaseModel], where: Where) -> type[BaseModel] | None:
    for step in where:
        if isinstance(step, int):
            continue  # an item of a list has its list's model
        fields: Mapping[str, FieldInfo] = model.model_fields
        inner = _members(fields[str(step)].annotation) if step in fields else []
        models = [each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)]
        if not models:
            return None
        model = models[0]
    return model


def _members(annotation: object) -> list[Any]:
    """Take a type apart: the members of a union, the items of a tuple, the type within `Annotated`."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, tuple):
        return [part for each in typing.get_args(annotation) for part in _members(each)]
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    return [annotation]


def _choices(annotation: object) -> list[str]:
    found: list[str] = []
    for each in _members(annotation):
        if typing.get_origin(each) is typing.Literal:
            found += [str(value) for value in typing.get_args(each)]
        elif isinstance(each, type) and issubclass(each, Enum):
            found += [str(member) for member in each]
    return found
