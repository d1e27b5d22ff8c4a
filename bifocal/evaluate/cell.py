"""One model, one data set, one task, by one protocol: measured, with its record.

Knows which measurement a task is; knows nothing of suites or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bifocal.embed import Embedded, Kind
from bifocal.embed.job import What
from bifocal.evaluate.adamw_probe import AdamWProbe, adamw_probe
from bifocal.evaluate.classifier import Prompting
from bifocal.evaluate.features import Pictures
from bifocal.evaluate.frozen import Labelled, frozen_features
from bifocal.evaluate.linear_probe import Probe, linear_probe
from bifocal.evaluate.multi_label import classify_multi_label
from bifocal.evaluate.opening import Opened
from bifocal.evaluate.probe_results import adamw_probe_record, paper_probe_record
from bifocal.evaluate.protocol import CLIP_BENCHMARK, PROTOCOLS
from bifocal.evaluate.record import Record
from bifocal.evaluate.results import (
    Origin,
    multi_label_record,
    retrieval_record,
    zero_shot_record,
)
from bifocal.evaluate.retrieval import retrieve
from bifocal.evaluate.suite_features import Kept
from bifocal.evaluate.zero_shot import classify
from bifocal.identity import JSON, ModelIdentity
from bifocal.inputs.prompts import PHOTO
from bifocal.pretrained import Pretrained


@dataclass(frozen=True, slots=True)
class Cell:
    """What is asked for.

    Attributes:
        task: zero_shot, retrieval or linear_probe.
        protocol: plain, paper or clip_benchmark; a plain probe is the paper's.
        templates: prompts; those beside the data, or the paper's one, if there are none.
        limit: pictures to read of each part; all if None.
        seed: of splits, draws and resamples.
        threads: that read pictures.
        probe: learning_rate, epochs, batch_size and held_out of a linear probe.
    """

    task: str
    protocol: str
    templates: tuple[str, ...]
    limit: int | None
    seed: int
    threads: int
    probe: Mapping[str, JSON]


def origin_of(
    cell: Cell, pretrained: Pretrained, model: ModelIdentity, opened: Mapping[str, Opened]
) -> Origin:
    """Return model, data and environment of a cell."""
    data = {name: one.identity(cell.limit) for name, one in opened.items()}
    return Origin.of(pretrained, model, data, cell.seed)


def measure(
    cell: Cell,
    pretrained: Pretrained,
    opened: Mapping[str, Opened],
    origin: Origin,
    extra: Mapping[str, JSON] = {},
    kept: Kept | None = None,
) -> Record:
    """Return the record of a cell.

    Args:
        cell: what is asked for.
        pretrained: the model.
        opened: the data by part; a linear probe reads "train" too, and "validation" if it is there.
        origin: of `origin_of`.
        extra: settings that the record keeps beside.
        kept: where features are kept; the tower reads the pictures anew if None.

    Raises:
        DataError: the data cannot be read, or are not of the kind that the task needs.
        ConfigError: prompts or probe settings are wrong.
        CheckpointError: features cannot be kept.
    """
    rules, test = PROTOCOLS[cell.protocol], opened["test"]
    stored = _features(cell, pretrained, opened, kept) if kept else {}
    origin = replace(origin, settings={**origin.settings, **extra}).read_from(stored)
    how = Pictures(cell.limit, cell.threads, stored=stored.get("test"))
    match cell.task:
        case "zero_shot":
            said = prompts_of(cell, test)
            asked = Prompting(said, protocol=rules)
            if test.labels:
                scored = classify_multi_label(pretrained, test.source, test.labels, asked, how)
                return multi_label_record(scored, origin, said)
            found = classify(pretrained, test.source, asked, how)
            return zero_shot_record(found, origin, said)
        case "retrieval":
            ranked = retrieve(pretrained, test.source, protocol=rules, how=how)
            return retrieval_record(ranked, origin)
        case _:
            return _probed(cell, pretrained, opened, origin, stored)


def _features(
    cell: Cell, pretrained: Pretrained, opened: Mapping[str, Opened], kept: Kept
) -> dict[str, Embedded]:
    """Return the features that a cell reads, by part; none of a model that predicts texts."""
    # Features do not say what such a model predicts, and it compares none.
    if pretrained.model.config.objective != "contrastive" and cell.task != "linear_probe":
        return {}
    # With words before them captions are other texts than those that are stored.
    captioned = cell.task == "retrieval" and not PROTOCOLS[cell.protocol].caption_prefix
    what: What = "both" if captioned else "images"
    return {
        name: kept.of(pretrained, one, cell.limit, _kind(cell), what)
        for name, one in opened.items()
    }


def _kind(cell: Cell) -> Kind:
    """Return the kind of features that a cell reads."""
    own = cell.task == "linear_probe" and cell.protocol != CLIP_BENCHMARK.name
    return "penultimate" if own else "projected"


def prompts_of(cell: Cell, test: Opened) -> tuple[str, ...]:
    """Return the templates of a cell: its own, or those beside the data, or the paper's one."""
    return cell.templates or test.templates or PHOTO


def _probed(
    cell: Cell,
    pretrained: Pretrained,
    opened: Mapping[str, Opened],
    origin: Origin,
    stored: Mapping[str, Embedded],
) -> Record:
    stepped = cell.protocol == CLIP_BENCHMARK.name
    sets: dict[str, Labelled] = {}
    for name, one in opened.items():
        how = Pictures(cell.limit, cell.threads, stored=stored.get(name))
        sets[name] = frozen_features(pretrained, one.source, _kind(cell), how)
    train, test, validation = sets["train"], sets["test"], sets.get("validation")
    if stepped:
        result = adamw_probe(train, test, validation, AdamWProbe(**cell.probe, seed=cell.seed))
        return adamw_probe_record(result, origin, sets)
    held_out = cell.probe.get("held_out")
    probe = Probe(seed=cell.seed) if held_out is None else Probe(held_out=held_out, seed=cell.seed)
    return paper_probe_record(linear_probe(train, test, validation, probe), origin, sets)
