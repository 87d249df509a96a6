"""Recipes: which model to convert, to which formats, and which gates the artifacts must pass."""

from convert.recipe.choose import Target, choose
from convert.recipe.gates import Gates
from convert.recipe.lookup import cli_name, expand_home, find, known_recipes
from convert.recipe.model import Calibration, Publish, Recipe, Verify, Waiver
from convert.recipe.reader import json_schema, load
from convert.recipe.strict import Short, TargetOptions

__all__ = [
    "Calibration",
    "Gates",
    "Publish",
    "Recipe",
    "Short",
    "Target",
    "TargetOptions",
    "Verify",
    "Waiver",
    "choose",
    "cli_name",
    "expand_home",
    "find",
    "json_schema",
    "known_recipes",
    "load",
]
