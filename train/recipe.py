"""Recipes: training runs as TOML files, checked field by field."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.train.config import TrainConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = files("mtspark.train") / "recipes"


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with mtspark."""
    names = (entry.name for entry in SHIPPED.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def read_recipe(name: str) -> dict[str, Any]:
    """The fields of a recipe, by the name of a shipped one or the path of a TOML file.

    Raises:
        BadFileError: no such recipe, or no TOML.
    """
    if name in shipped_recipes():
        text = (SHIPPED / f"{name}.toml").read_text()
    else:
        path = Path(name)
        if not path.is_file():
            raise BadFileError(
                f"{name}: no such recipe; give a TOML file or one of {', '.join(shipped_recipes())}"
            )
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise BadFileError(f"{path}: cannot be read as text ({error})") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadFileError(f"{name}: not TOML: {error}") from error


def override(fields: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Set fields by ``name=value`` or ``table.name=value``; values are TOML, or plain words.

    Raises:
        BadRequestError: an assignment without a name or an equals sign.
    """
    changed: dict[str, Any] = {
        key: dict(value) if isinstance(value, dict) else value for key, value in fields.items()
    }
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *tables, last = path.strip().split(".")
        if not equals or not last or len(tables) > 1:
            raise BadRequestError(
                f"--set {assignment}: write name=value or table.name=value, for example "
                "network.hidden=512"
            )
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        owner = changed.setdefault(tables[0], {}) if tables else changed
        if not isinstance(owner, dict):
            raise BadRequestError(f"--set {assignment}: {tables[0]} is no table")
        owner[last] = value
    return changed


def to_config(fields: dict[str, Any], where: str) -> TrainConfig:
    """Build the configuration; `where` names the recipe in errors.

    Raises:
        BadRequestError: an unknown field, or a value of the wrong type or range; all of them
            are told together.
    """
    try:
        return TypeAdapter(TrainConfig).validate_python(fields)
    except ValidationError as error:
        told = []
        for problem in error.errors():
            path = ".".join(str(part) for part in problem["loc"]) or "recipe"
            told.append(f"{path}: {problem['msg'].removeprefix('Value error, ')}")
        raise BadRequestError(f"{where}: " + "; ".join(told)) from error
