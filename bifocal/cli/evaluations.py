"""The evaluations of a run, composed from its settings: zero-shot sets and retrieval."""

from __future__ import annotations

from dataclasses import dataclass, field

from bifocal.data.sample import Source
from bifocal.data.sources import open_source
from bifocal.evaluate.retrieval import RetrievalResult, retrieval, validation_loss
from bifocal.evaluate.scoring import check_choice
from bifocal.evaluate.zero_shot import ZeroShotResult, zero_shot
from bifocal.train.config import RunConfig
from bifocal.train.hooks import Metrics
from bifocal.train.objective import contrastive_loss
from bifocal.train.prepare import open_validation, reading
from bifocal.train.state import Run


@dataclass
class Evaluations:
    """Measures a run; keeps the last results whole for the report.

    Sources are opened at once, so that a wrong path is known before training and not after it.
    """

    config: RunConfig
    validation: Source | None = field(init=False)
    labelled: dict[str, Source] = field(init=False)
    zero_shot: dict[str, ZeroShotResult] = field(init=False, default_factory=dict)
    retrieval: RetrievalResult | None = field(init=False, default=None)
    metrics: Metrics = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        config = self.config
        self.validation = open_validation(config) if config.evaluate.retrieval else None
        self.labelled = {
            name: open_source(one.data, reading(config, classes=one.classes))
            for name, one in config.evaluate.zero_shot.items()
        }
        for source in self.labelled.values():
            check_choice(source.class_names)

    def __call__(self, run: Run, last: bool) -> Metrics:
        """Return metrics by "data set/name"."""
        limit = None if last else self.config.evaluate.limit
        threads = self.config.data.threads
        found: dict[str, float] = {}
        for name, source in self.labelled.items():
            templates = self.config.evaluate.zero_shot[name].templates
            result = zero_shot(run.pretrained, source, templates, limit=limit, threads=threads)
            self.zero_shot[name] = result
            found |= {f"{name}/{key}": value for key, value in result.metrics().items()}
        if self.validation is not None:
            result = retrieval(run.pretrained, self.validation, threads=threads)
            self.retrieval = result
            found |= {f"val/{key}": value for key, value in result.metrics().items()}
            loss, size = contrastive_loss(self.config), self.config.data.batch_size
            found["val/loss"] = validation_loss(result, run.model, loss, size)
        self.metrics = found
        return found
