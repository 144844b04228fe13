"""forge.toml in a work tree."""

from __future__ import annotations

from pathlib import Path

from forge.errors import ForgeError
from forge.git.files import read_plain_file
from forge.recipe.layout import SETTINGS_FILE
from forge.recipe.settings import Settings, read_settings
from forge.recipe.toml_text import MAX_BYTES


def load_settings(top: Path) -> Settings:
    """The settings in the work tree whose top folder is `top`.

    Raises ForgeError where there is no forge.toml: this is no model repository (yet).
    """
    text = read_plain_file(top / SETTINGS_FILE, MAX_BYTES, SETTINGS_FILE)
    if text is None and (top / "HEAD").is_file() and (top / "objects").is_dir():
        raise ForgeError(
            f"{top} is a bare repository: it has no work tree",
            hint="do this in a clone of it; what reads revisions works here: git forge log, show, diff and verify",
        )
    if text is None:
        raise not_a_model_repository(str(top))
    return read_settings(text)


def not_a_model_repository(where: str) -> ForgeError:
    """The error for a repository, or a revision of one, without forge.toml."""
    return ForgeError(
        f"no {SETTINGS_FILE} in {where}: this is not a model repository",
        hint="make it one with `git forge init`",
    )
