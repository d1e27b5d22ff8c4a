"""What trained models make of labelled pictures: features that are computed once, and accuracies.

Features lie in the run's own folder, so that claims which ask the same model share them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from bifocal.data.sample import Source
from bifocal.data.sources import Reading, open_source
from bifocal.evaluate.features import Pictures
from bifocal.evaluate.frozen import Labelled, frozen_features
from bifocal.inputs.prompts import prompts
from bifocal.interop.load import load
from bifocal.pretrained import Pretrained
from bifocal.train.recipe import DATA_ROOT
from experiments.runs import Trained


def opened(pretrained: Pretrained, spec: str, seed: int) -> Source:
    """Return a labelled source as the model reads it; of scenes, those of a seed."""
    root = Path(os.environ.get(DATA_ROOT, ""))
    size = pretrained.preprocess.image_size
    return open_source(spec, Reading(root=root, seed=seed, image_size=size))


def labelled(run: Trained, pretrained: Pretrained, spec: str, seed: int = 0) -> Labelled:
    """Return the projected features of a source's pictures, read once.

    Args:
        run: whose model it is.
        pretrained: the model.
        spec: labelled pictures.
        seed: of drawn scenes; another one gives other pictures.
    """
    source = opened(pretrained, spec, seed)
    digest = hashlib.sha256(f"{spec} {seed} {source.identity}".encode()).hexdigest()[:8]
    stored = run.folder / "features" / f"{digest}.safetensors"
    if not stored.exists():
        print(f"reading {spec} with {run.folder}", flush=True)
        seen = frozen_features(pretrained, source, "projected", Pictures(threads=1))
        stored.parent.mkdir(exist_ok=True)
        save_file({"features": seen.features.contiguous(), "labels": seen.labels}, stored)
    kept = load_file(stored)
    return Labelled(kept["features"], kept["labels"], tuple(source.class_names), "projected")


def opened_model(run: Trained) -> Pretrained:
    """Return the model that a run left."""
    return load(run.folder)


def zero_shot_top1(
    pretrained: Pretrained,
    pictures: Labelled,
    templates: Sequence[str],
    among_present: bool = False,
) -> float:
    """Return the share of pictures whose class has the nearest prompts.

    Args:
        pretrained: the model that the features are of.
        pictures: features and classes.
        templates: prompts, averaged in embedding space.
        among_present: choose among the classes that occur in `pictures` only.
    """
    weights: Float[Tensor, "classes embed_dim"] = pretrained.class_weights(
        prompts(pictures.class_names, templates)
    )
    logits = pictures.features @ weights.T
    if among_present:
        present = pictures.labels.unique()
        absent = torch.ones(len(weights), dtype=torch.bool)
        absent[present] = False
        logits[:, absent] = -torch.inf
    return float((logits.argmax(dim=1) == pictures.labels).float().mean())
