"""From a measurement to its record: metrics, intervals and every example's outcome.

One function a task; linear probes' are in `probe_results`. Knows what each task's result holds;
knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from bifocal import __version__
from bifocal.embed import Embedded
from bifocal.evaluate.calibration import calibration_intervals, proper_scores
from bifocal.evaluate.features import check_finite
from bifocal.evaluate.multi_label import RANKING, MultiLabelResult
from bifocal.evaluate.paper_score import check_score, paper_interval, paper_score
from bifocal.evaluate.protocol import paper_metric
from bifocal.evaluate.record import CLASS, UNIT, Record
from bifocal.evaluate.resampling import median_of, percentile_interval
from bifocal.evaluate.retrieval import RetrievalResult
from bifocal.evaluate.statistics import Bootstrap, interval
from bifocal.evaluate.zero_shot import ZeroShotResult
from bifocal.identity import JSON, DataIdentity, ModelIdentity, fingerprint
from bifocal.inputs.prompts import Templates
from bifocal.pretrained import Pretrained

ZERO_SHOT, RETRIEVAL, LINEAR_PROBE = "zero_shot", "retrieval", "linear_probe"
TIES = "counted as ranked above"
LISTED = 1000
"""Templates up to which a record lists them; a table of prompts by class is known by its hash."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a figure comes from: who was measured, on what, with which further settings."""

    model: ModelIdentity
    data: DataIdentity
    settings: Mapping[str, JSON]
    seed: int = 0
    """Of the resamples of the intervals."""

    @classmethod
    def of(
        cls,
        pretrained: Pretrained,
        model: ModelIdentity,
        data: Mapping[str, DataIdentity],
        seed: int = 0,
        stored: Mapping[str, Embedded] = {},
    ) -> Origin:
        """Return where figures on `data["test"]` come from; other data are settings.

        Args:
            pretrained: the model.
            model: who it is.
            data: by part: test, train, validation.
            seed: of the resamples.
            stored: features that are read in place of the tower's, by part.
        """
        settings: dict[str, JSON] = {
            "bifocal": __version__,
            "torch": torch.__version__,
            "device": pretrained.device.type,
            "threads": torch.get_num_threads(),
            "dtype": str(pretrained.model.logit_scale.dtype).removeprefix("torch."),
        }
        settings |= {name: asdict(one) for name, one in data.items() if name != "test"}
        return cls(model, data["test"], settings, seed).read_from(stored)

    def read_from(self, stored: Mapping[str, Embedded]) -> Origin:
        """Return the same with features that are read in place of the tower's, by part."""
        if not stored:
            return self
        made = {name: one.meta["settings"] for name, one in stored.items()}
        said = {n: f"{one['dtype']}, computed in {one['precision']}" for n, one in made.items()}
        return replace(self, settings={**self.settings, "embedded": said})


def zero_shot_record(
    result: ZeroShotResult, origin: Origin, templates: Templates = (), data_set: str = ""
) -> Record:
    """Return the record of a zero-shot classification.

    Args:
        result: of the classification.
        origin: of it.
        templates: as they were given, to be read by people.
        data_set: name of one of the paper's data sets, to be scored as the paper does.

    Raises:
        ConfigError: the data set is none of the paper's, or cannot be scored so here.
        DataError: a logit is not finite.
    """
    intervals = result.intervals(Bootstrap(seed=origin.seed))
    metrics = result.metrics()
    settings = _zero_shot_settings(origin, result, templates)
    plan = Bootstrap(seed=origin.seed)
    if data_set:
        counted = paper_metric(data_set)
        metrics["paper_metric"] = paper_score(result, counted)
        bounds = paper_interval(result, counted, plan)
        intervals |= {"paper_metric": bounds} if bounds else {}
        settings |= {"data_set": data_set, "paper_metric": counted}
    metrics |= result.calibration().metrics()
    intervals |= calibration_intervals(result.logits, result.labels, plan)
    outcomes: dict[str, Tensor] = {UNIT: result.indices}
    outcomes |= proper_scores(result.logits, result.labels)
    for name, right in result.right().items():
        outcomes[name] = right
        classes = result.classes_of(name)
        if classes is not None:
            outcomes[f"{name}.{CLASS}"] = classes
    protocol, model, data = result.protocol.name, origin.model, origin.data
    return Record(ZERO_SHOT, protocol, model, data, settings, metrics, intervals, outcomes)


def multi_label_record(
    result: MultiLabelResult, origin: Origin, templates: Templates = (), data_set: str = ""
) -> Record:
    """Return the record of a zero-shot scoring of pictures of several classes each.

    The arguments are those of `zero_shot_record`.

    Raises:
        ConfigError: the data set is none of the paper's, or is scored by one class a picture.
    """
    intervals = result.intervals(Bootstrap(seed=origin.seed))
    metrics = result.metrics()
    labels = result.relevant.sum(dim=1).double().mean().item()
    settings = _zero_shot_settings(origin, result, templates) | {"classes_a_picture": labels}
    if data_set:
        counted = paper_metric(data_set)
        check_score(counted, len(result.class_names), multi_label=True)
        same = "mean_average_precision_11_points"
        metrics["paper_metric"] = metrics[same]
        intervals |= {"paper_metric": intervals[same]} if same in intervals else {}
        settings |= {"data_set": data_set, "paper_metric": counted}
    outcomes = {RANKING: result.ranking(), f"{RANKING}.{UNIT}": result.indices[result.labelled]}
    protocol, model, data = result.protocol.name, origin.model, origin.data
    return Record(ZERO_SHOT, protocol, model, data, settings, metrics, intervals, outcomes)


def retrieval_record(result: RetrievalResult, origin: Origin) -> Record:
    """Return the record of a retrieval, mean ranks (1 is first) too; a query has its picture.

    Raises:
        DataError: a feature is not finite.
    """
    check_finite(result.image_features, result.text_features)
    plan = Bootstrap(seed=origin.seed)
    intervals = result.intervals(plan)
    metrics = result.metrics()
    settings = _settings(origin, result) | {
        "same": result.same,
        "captions_sha256": fingerprint(list(result.captions)),
    }
    found: dict[str, Tensor] = dict(result.right())
    for way, ranks in result.ways().items():
        found[f"{way}_mean_rank"] = ranks.double() + 1
        metrics[f"{way}_mean_rank"] = found[f"{way}_mean_rank"].mean().item()
        units = result.unit_of(f"{way}_mean_rank")
        if len(result.indices) > 1:
            name, values = f"{way}_mean_rank", found[f"{way}_mean_rank"]
            intervals[name] = interval(values, groups=units, plan=plan)
            middle = percentile_interval(median_of(values), len(values), groups=units, plan=plan)
            intervals |= {f"{way}_median_rank": middle} if middle else {}
    groups = result.relevance.images
    rows = torch.arange(len(groups))
    # A group of equal pictures is called by its first one.
    first = torch.zeros_like(groups).scatter_reduce(0, groups, rows, "amin", include_self=False)
    outcomes: dict[str, Tensor] = {}
    for name, values in found.items():
        units = result.unit_of(name)
        outcomes[name] = values
        outcomes[f"{name}.{UNIT}"] = result.indices[rows if units is None else first[units]]
    protocol, model, data = result.protocol.name, origin.model, origin.data
    return Record(RETRIEVAL, protocol, model, data, settings, metrics, intervals, outcomes)


def _zero_shot_settings(
    origin: Origin, result: ZeroShotResult | MultiLabelResult, templates: Templates
) -> dict[str, JSON]:
    return _settings(origin, result) | {
        "class_names": list(result.class_names),
        "class_names_sha256": fingerprint(list(result.class_names)),
        "templates": _listed(templates),
        "prompts_sha256": fingerprint([list(row) for row in result.prompts]),
        "scores": result.scores,
    }


def _settings(
    origin: Origin, result: ZeroShotResult | MultiLabelResult | RetrievalResult
) -> dict[str, JSON]:
    rules = {"rules": result.protocol.settings(), "ties": TIES, "skipped": result.skipped}
    return {**origin.settings, **rules}


def _listed(templates: Templates) -> JSON:
    if isinstance(templates, Mapping):
        return fingerprint({name: list(some) for name, some in templates.items()})
    return list(templates) if len(templates) <= LISTED else fingerprint(list(templates))
