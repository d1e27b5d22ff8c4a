"""Class names in sentences: prompt templates and what they make of names.

Paper section 3.1.4: a name alone is rarely what a caption looks like; a template such as
"a photo of a {}." closes the gap, and averaging several in embedding space closes more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bifocal.errors import ConfigError, did_you_mean

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

Templates = Sequence[str] | Mapping[str, Sequence[str]]
"""Sentences with a place for any name; or the prompts of each class by its name, in which a place
is optional (as written by a language model: Pratt et al. 2022, arXiv 2209.03320)."""


@dataclass(frozen=True, slots=True)
class ClassNames:
    """Classes in the order of their labels.

    Attributes:
        shown: one name a class, as results show it; two classes may share one.
        called: all names of each class that prompts are made of, at least one.
    """

    shown: tuple[str, ...]
    called: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if not self.shown:
            raise ConfigError("there is no class: zero-shot needs at least one name")
        if len(self.shown) != len(self.called):
            raise ConfigError(f"{len(self.shown)} classes with {len(self.called)} lists of names")
        for name, called in zip(self.shown, self.called, strict=True):
            if not called or not all(one.strip() for one in (name, *called)):
                raise ConfigError(f"a class name is empty (at '{name}'): give every class a name")

    @classmethod
    def of(cls, names: Sequence[str]) -> ClassNames:
        """Return classes with one name each."""
        return cls(tuple(names), tuple((name,) for name in names))

    def of_labels(self, names: Sequence[str]) -> ClassNames:
        """Return these classes in the order of a source's labels, which has its own `names`.

        Classes that are shown under exactly the source's names (`_` reads as a space) are taken by
        name; otherwise as many classes as labels are taken in their order.

        Raises:
            ConfigError: neither can be done.
        """
        wanted, own = ([_spaced(name) for name in some] for some in (names, self.shown))
        if len(set(own)) == len(own) and sorted(own) == sorted(wanted):
            rows = [own.index(name) for name in wanted]
            return ClassNames(tuple(names), tuple(self.called[row] for row in rows))
        if len(names) != len(self.shown):
            strange = next((name for name in own if name not in wanted), own[0])
            raise ConfigError(
                f"{len(self.shown)} classes for data of {len(names)}; '{strange}' is none of the "
                f"data's{did_you_mean(strange, wanted)}: give one class a label, in their order"
            )
        return self


def _spaced(name: str) -> str:
    return name.replace("_", " ").strip()


def fill(template: str, name: str, *, articles: bool = True) -> str:
    """Return `template` with the class name in place of `{}` or `{c}`.

    Args:
        template: a sentence.
        name: of the class.
        articles: "a {}" becomes "an {}" before a vowel, as a caption would have it; False leaves
            the sentence as it is, as the paper's and CLIP_benchmark's prompts are.

    Raises:
        ConfigError: the template has no place for a name.
    """
    place = "{}" if "{}" in template else "{c}"
    if place not in template:
        raise ConfigError(f"the template '{template}' has no {{}} for the class name")
    if articles and name[:1].lower() in {"a", "e", "i", "o"}:
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
    return class_prompts(ClassNames.of(class_names), templates)


def class_prompts(
    classes: ClassNames, templates: Templates, *, articles: bool = True
) -> list[list[str]]:
    """Return the prompts of each class: every template with every name of the class.

    Raises:
        ConfigError: there is no template, or none for some class.
    """
    return [
        [
            prompt
            for sentence in _sentences(shown, templates)
            for prompt in _said(sentence, called, templates, articles)
        ]
        for shown, called in zip(classes.shown, classes.called, strict=True)
    ]


def _sentences(shown: str, templates: Templates) -> Sequence[str]:
    if not isinstance(templates, Mapping):
        if not templates:
            raise ConfigError("zero-shot needs at least one template")
        return templates
    found = templates.get(shown, ())
    if not found:
        raise ConfigError(
            f"no prompts for the class '{shown}'{did_you_mean(shown, templates)}: a table of "
            "prompts needs a list of one or more for every class"
        )
    return found


def _said(
    sentence: str, called: Sequence[str], templates: Templates, articles: bool
) -> Sequence[str]:
    if isinstance(templates, Mapping) and "{}" not in sentence and "{c}" not in sentence:
        return [sentence]
    return [fill(sentence, name, articles=articles) for name in called]
