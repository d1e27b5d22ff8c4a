"""From a linear probe to its record; one function a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from statistics import fmean

import torch
from torch import Tensor

from bifocal.evaluate.adamw_probe import AdamWProbeResult
from bifocal.evaluate.frozen import Labelled
from bifocal.evaluate.linear_probe import FewShotResult, LinearProbeResult
from bifocal.evaluate.protocol import CLIP_BENCHMARK, PAPER
from bifocal.evaluate.record import CLASS, UNIT, Record
from bifocal.evaluate.results import LINEAR_PROBE, TIES, Origin
from bifocal.evaluate.statistics import Bootstrap, interval
from bifocal.identity import JSON

Sets = Mapping[str, Labelled]
"""What was read, by part: test, train, and validation where one was given."""


def paper_probe_record(result: LinearProbeResult, origin: Origin, sets: Sets) -> Record:
    """Return the record of a probe by the paper's protocol."""
    settings = _settings(result, origin, sets) | {"held_out": result.held_out, "C": result.C}
    metric, model, data = _name(result), origin.model, origin.data
    metrics, intervals = {metric: result.accuracy}, {metric: result.interval}
    outcomes = _outcomes(result, result.right, sets["test"])
    return Record(LINEAR_PROBE, PAPER.name, model, data, settings, metrics, intervals, outcomes)


def few_shot_record(few: FewShotResult, origin: Origin, sets: Sets) -> Record:
    """Return the record of probes of a few examples: an outcome is a share of draws.

    The interval is over test pictures; how the draws of examples scatter is `std` in the settings.
    """
    first = few.results[0]
    values = torch.stack([one.right.double() for one in few.results]).mean(dim=0)
    settings = _settings(first, origin, sets) | {
        "shots": few.shots,
        "draws": len(few.results),
        "std": few.std,
        "C": [one.C for one in few.results],
        "unconverged": sum(one.unconverged for one in few.results),
    }
    metric, model, data = _name(first), origin.model, origin.data
    outcomes = _outcomes(first, values, sets["test"])
    classes = outcomes.get(f"{metric}.{CLASS}")
    intervals = {metric: interval(values, classes=classes, plan=Bootstrap(seed=first.seed))}
    metrics = {metric: fmean(one.accuracy for one in few.results)}
    protocol = f"{PAPER.name}-{few.shots}-shot"
    return Record(LINEAR_PROBE, protocol, model, data, settings, metrics, intervals, outcomes)


def adamw_probe_record(result: AdamWProbeResult, origin: Origin, sets: Sets) -> Record:
    """Return the record of a probe by CLIP_benchmark's protocol."""
    outcomes: dict[str, Tensor] = dict(result.outcomes())
    outcomes[f"lp_mean_per_class_recall.{CLASS}"] = result.labels
    settings = {
        **origin.settings,
        **asdict(result.probe),
        "features": "projected",
        "normalize": True,
        "ties": "as torch.topk orders them",
        "weight_decay": result.weight_decay,
        "train_examples": result.train,
        "validation_examples": result.validation,
        "skipped": _skipped(sets),
    }
    return Record(
        LINEAR_PROBE,
        CLIP_BENCHMARK.name,
        origin.model,
        origin.data,
        settings,
        result.metrics(),
        result.intervals(),
        _of_pictures(outcomes, sets["test"]),
    )


def _settings(result: LinearProbeResult, origin: Origin, sets: Sets) -> dict[str, JSON]:
    return {
        **origin.settings,
        "features": result.features,
        "normalize": result.features == "projected",
        "metric": result.metric,
        "seed": result.seed,
        "rules": result.protocol,
        "ties": TIES,
        "train_examples": result.train,
        "validation_examples": result.validation,
        "unconverged": result.unconverged,
        "skipped": _skipped(sets),
    }


def _name(result: LinearProbeResult) -> str:
    return "top1" if result.metric == "top1" else "mean_per_class_recall"


def _outcomes(result: LinearProbeResult, values: Tensor, test: Labelled) -> dict[str, Tensor]:
    name = _name(result)
    classes = {} if name == "top1" else {f"{name}.{CLASS}": test.labels}
    return _of_pictures({name: values, **classes}, test)


def _of_pictures(outcomes: dict[str, Tensor], test: Labelled) -> dict[str, Tensor]:
    return outcomes if test.indices is None else outcomes | {UNIT: test.indices}


def _skipped(sets: Sets) -> dict[str, int]:
    return {name: one.skipped for name, one in sets.items()}
