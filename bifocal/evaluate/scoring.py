"""Scores of every picture of a source against the names of its classes, whatever is made of them.

A contrastive model compares pictures with classes; one that predicts texts is asked how likely each
class's prompts are, given the picture. Knows models and prompts; knows nothing of right and wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from bifocal.data.sample import Source
from bifocal.embed import Encoded
from bifocal.errors import ConfigError, DataError
from bifocal.evaluate.classifier import Prompting, build_head
from bifocal.evaluate.features import ALL, Pictures, encode_pictures
from bifocal.evaluate.likelihood import Likelihoods
from bifocal.pretrained import Pretrained, Told, quiet

Scores = Literal["cosine", "likelihood", "likelihood per token"]
"""What logits are: cosines times a scale, or log-likelihoods of the prompts."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of every picture against every class.

    Attributes:
        class_names: as they are shown.
        prompts: what each class was said by.
        logits: pictures in rows, in the order of `seen`.
        seen: the pictures, with what is known of each.
        scores: what the logits are.
    """

    class_names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    logits: Float[Tensor, "images classes"]
    seen: Encoded
    scores: Scores


def score(
    pretrained: Pretrained,
    source: Source,
    prompting: Prompting,
    how: Pictures = ALL,
    told: Mapping[str, Told] = {},
    *,
    one_class: bool,
) -> Scored:
    """Score a source's pictures by a protocol.

    Args:
        pretrained: the model.
        source: of pictures, with the names of classes.
        prompting: how classes are said.
        how: which pictures, and whence their features.
        told: hears of "prompts" and of "pictures" that are done.
        one_class: whether every picture has to have one label.

    Raises:
        DataError: the source has no classes, or there is no choice of one, or a picture has not the
            label that it needs.
        ConfigError: the classes or templates are not those of the data.
        CheckpointError: stored features are not of this model and data.
    """
    if not source.class_names:
        raise DataError("the pictures have no classes: zero-shot needs NAME.cls and classes.json")
    # What is wrong with the names is known before pictures are read.
    classes = prompting.named(source.class_names)
    if one_class:
        check_choice(classes.shown)
    rows = prompting.prompts(classes)
    _warn_of_twins(classes.shown, rows)
    predicts = _predicts(pretrained, prompting)
    read = Likelihoods(pretrained, rows, per_token=prompting.per_token) if predicts else None
    seen = encode_pictures(pretrained, source, how, told.get("pictures", quiet), read)
    if one_class and (seen.labels < 0).any():
        raise DataError(
            "some pictures have captions but no label, or may be of several classes: this needs "
            "NAME.cls with one number"
        )
    logits = seen.features
    if not predicts:
        head = build_head(pretrained, rows, prompting, told.get("prompts", quiet))
        logits = head.logits(seen.features)
    return Scored(
        class_names=classes.shown,
        prompts=tuple(tuple(row) for row in rows),
        logits=logits,
        seen=seen,
        scores=_scores(predicts, prompting.per_token),
    )


def check_choice(names: Sequence[str]) -> None:
    """Raise DataError if there are classes, but not two to choose between."""
    if len(names) == 1:
        raise DataError(
            f"the pictures have one class, '{names[0]}': zero-shot chooses between two or more"
        )


def _warn_of_twins(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Tell a user of classes that no model can tell apart."""
    first: dict[tuple[str, ...], str] = {}
    for name, row in zip(names, rows, strict=True):
        if tuple(row) in first:
            _log.warning(
                "the classes '%s' and '%s' have the same prompts: no score tells them apart, and "
                "where one is to be chosen a tie counts as wrong; give them names of their own",
                first[tuple(row)],
                name,
            )
        first.setdefault(tuple(row), name)


def _predicts(pretrained: Pretrained, prompting: Prompting) -> bool:
    """Return whether a model predicts texts, in place of comparing them with pictures."""
    predicts = pretrained.model.config.objective != "contrastive"
    if prompting.per_token and not predicts:
        raise ConfigError(
            "this model compares pictures with prompts and predicts no tokens: leave per_token out"
        )
    return predicts


def _scores(predicts: bool, per_token: bool) -> Scores:
    if not predicts:
        return "cosine"
    return "likelihood per token" if per_token else "likelihood"
