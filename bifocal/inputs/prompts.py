"""Class names in sentences: prompt templates and what they make of names.

Paper section 3.1.4: a name alone is rarely what a caption looks like; a template such as
"a photo of a {}." closes the gap, and averaging several in embedding space closes more.
"""

from __future__ import annotations

from collections.abc import Sequence

from bifocal.errors import ConfigError

PHOTO: tuple[str, ...] = ("a photo of a {}.",)
"""The paper's default prompt."""

SMALL_PICTURES: tuple[str, ...] = (
    "a photo of a {}.",
    "a blurry photo of a {}.",
    "a low resolution photo of a {}.",
    "a close-up of a {}.",
    "a small picture of the {}.",
)
"""For pictures of a few dozen pixels."""


def fill(template: str, name: str) -> str:
    """Return `template` with the class name in place of `{}` or `{c}`.

    "a {}" becomes "an {}" before a vowel, as a caption would have it.

    Raises:
        ConfigError: the template has no place for a name.
    """
    place = "{}" if "{}" in template else "{c}"
    if place not in template:
        raise ConfigError(f"the template '{template}' has no {{}} for the class name")
    if name[:1].lower() in {"a", "e", "i", "o"}:
        template = template.replace(f" a {place}", f" an {place}")
        if template.startswith(f"a {place}"):
            template = "an" + template[1:]
    return template.replace(place, name)


def prompts(class_names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Return one list of prompts a class, in the order of the names.

    Raises:
        ConfigError: there is no name, no template, or an empty name.
    """
    if not class_names or not templates:
        raise ConfigError("zero-shot needs at least one class name and one template")
    if not all(name.strip() for name in class_names):
        raise ConfigError("a class name is empty: give every class a name")
    return [[fill(template, name) for template in templates] for name in class_names]
