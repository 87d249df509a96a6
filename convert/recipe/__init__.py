"""Recipes: what to convert, to what, and what decides whether it went well."""

from convert.recipe.lookup import expanded, find, known, typed
from convert.recipe.model import Calibration, Gates, Publish, Recipe, TargetOptions, Verify, Waiver
from convert.recipe.reader import json_schema, load

__all__ = [
    "Calibration",
    "Gates",
    "Publish",
    "Recipe",
    "TargetOptions",
    "Verify",
    "Waiver",
    "expanded",
    "find",
    "json_schema",
    "known",
    "load",
    "typed",
]
