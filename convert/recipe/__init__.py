"""Recipes: what to convert, to what, and what decides whether it went well."""

from convert.recipe.find import find, known
from convert.recipe.load import json_schema, load
from convert.recipe.model import Calibration, Gates, Publish, Recipe, TargetOptions, Verify

__all__ = [
    "Calibration",
    "Gates",
    "Publish",
    "Recipe",
    "TargetOptions",
    "Verify",
    "find",
    "json_schema",
    "known",
    "load",
]
