"""What zero-shot is told: classes, templates, and where classifiers are kept."""

from __future__ import annotations

from pathlib import Path

from bifocal.cli.figures import find_file
from bifocal.errors import ConfigError
from bifocal.evaluate.classifier_cache import ClassifierCache, user_cache
from bifocal.inputs.prompt_files import read_classes, read_templates
from bifocal.inputs.prompts import PHOTO, ClassNames, Templates
from bifocal.inputs.templates import template_set

FILES = (".json", ".toml", ".txt")


def chosen_classes(path: str) -> ClassNames | None:
    """Return what a file of class names holds, if one is given.

    Raises:
        ConfigError: it cannot be read.
    """
    return read_classes(find_file(path)) if path else None


def chosen_templates(single: list[str] | None, many: str, own: tuple[str, ...]) -> Templates:
    """Return the templates that are asked for, else the data's own, else the paper's.

    Raises:
        ConfigError: both kinds are asked for, or they cannot be read.
    """
    if single and many:
        raise ConfigError("--template and --templates are both given: use one of them")
    if single:
        return tuple(single)
    if not many:
        return own or PHOTO
    is_file = Path(many).suffix.lower() in FILES or Path(many).is_file()
    return read_templates(find_file(many)) if is_file else template_set(many)


def chosen_cache(folder: Path | None, off: bool) -> ClassifierCache | None:
    """Return where classifiers are kept, if anywhere."""
    folder = None if off else folder or user_cache()
    return None if folder is None else ClassifierCache(folder)
