"""From classes and templates to the classifier of a zero-shot task (paper section 3.1.4).

By a protocol's rules, and from a cache where there is one: `Pretrained.class_weights` makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bifocal.evaluate.classifier_cache import ClassifierCache, classifier_key
from bifocal.evaluate.protocol import PLAIN, Protocol
from bifocal.inputs.prompts import PHOTO, ClassNames, Templates, class_prompts
from bifocal.model.head import ZeroShotHead
from bifocal.pretrained import Pretrained, Told, quiet


@dataclass(frozen=True, slots=True)
class Prompting:
    """How classes are said, and by whose rules.

    Attributes:
        templates: sentences, or prompts by class.
        classes: names of the classes; those of the data if None.
        protocol: rules of filling and of logits.
        cache: where classifiers are kept; None for nowhere.
        per_token: whether a model that predicts texts is asked for the mean log-likelihood of a
            prompt's tokens, in which longer names are at no disadvantage, and not for the sum.
    """

    templates: Templates = PHOTO
    classes: ClassNames | None = None
    protocol: Protocol = PLAIN
    cache: ClassifierCache | None = None
    per_token: bool = False

    def named(self, labels: Sequence[str]) -> ClassNames:
        """Return the classes in the order of a source's labels.

        Raises:
            ConfigError: the classes are not the data's.
        """
        return ClassNames.of(labels) if self.classes is None else self.classes.of_labels(labels)

    def prompts(self, classes: ClassNames) -> list[list[str]]:
        """Return the prompts of each class.

        Raises:
            ConfigError: a class has none.
        """
        return class_prompts(classes, self.templates, articles=self.protocol.articles)


def build_head(
    pretrained: Pretrained,
    rows: Sequence[Sequence[str]],
    prompting: Prompting,
    told: Told = quiet,
) -> ZeroShotHead:
    """Return the classifier that prompts make, one row of them a class."""
    cache = prompting.cache
    key = classifier_key(pretrained, rows) if cache else ""
    dim = pretrained.model.config.embed_dim
    weights = cache.read(key, len(rows), dim) if cache else None
    if weights is None:
        weights = pretrained.class_weights(rows, told)
        if cache:
            cache.write(key, weights)
    scale = prompting.protocol.logit_scale
    learned = pretrained.model.logit_scale.detach().exp().float().cpu()
    return ZeroShotHead(weights, learned if scale is None else torch.tensor(scale))
