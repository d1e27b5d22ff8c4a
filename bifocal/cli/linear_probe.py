"""`bifocal evaluate linear-probe`: a linear classifier on frozen image features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bifocal.cli.arguments import Details, Device, Limit, Model, Names, RecordFile, Threads
from bifocal.cli.figures import reading, write_figures
from bifocal.cli.probe_tables import (
    adamw_figures,
    adamw_table,
    few_figures,
    few_table,
    whole_figures,
    whole_table,
)
from bifocal.cli.waiting import watching
from bifocal.embed import Embedded
from bifocal.errors import ConfigError
from bifocal.evaluate.adamw_probe import AdamWProbe, adamw_probe
from bifocal.evaluate.features import Pictures
from bifocal.evaluate.frozen import Labelled, frozen_features
from bifocal.evaluate.linear_probe import Metric, Probe, few_shot_probe
from bifocal.evaluate.linear_probe import linear_probe as measure
from bifocal.evaluate.opening import Opened, as_read_by, open_split
from bifocal.evaluate.probe_results import (
    adamw_probe_record,
    few_shot_record,
    paper_probe_record,
)
from bifocal.evaluate.record import Record, write_record
from bifocal.evaluate.results import Origin
from bifocal.identity import identify_model
from bifocal.interop.load import load
from bifocal.world import pick_device

HELD_OUT = 0.2
"""Share of the training pictures to choose C by, in the paper's protocol."""


class Rules(StrEnum):
    """Whose probe."""

    paper = "paper"
    clip_benchmark = "clip_benchmark"


class Kind(StrEnum):
    """Which features are probed."""

    penultimate = "penultimate"
    projected = "projected"


class Share(StrEnum):
    """What is counted."""

    top1 = "top1"
    mean_per_class = "mean_per_class"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line says of the probe."""

    rules: Rules
    shots: Sequence[int]
    repeats: int
    metric: Metric
    held_out: float | None
    seed: int
    adamw: AdamWProbe


def linear_probe(
    model: Model,
    train: Annotated[str, typer.Option(help="Labelled pictures to learn from.")],
    test: Annotated[str, typer.Option(help="Labelled pictures to test on.")],
    validation: Annotated[
        str, typer.Option(help="Labelled pictures to choose the penalty by.")
    ] = "",
    protocol: Annotated[
        Rules, typer.Option(help="The paper's L-BFGS, or CLIP_benchmark's AdamW.")
    ] = Rules.paper,
    shots: Annotated[
        str, typer.Option(help="Examples a class, as 1,2,4,8,16; all of them if empty.")
    ] = "",
    repeats: Annotated[int, typer.Option(help="Draws of the few examples (paper).", min=1)] = 3,
    kind: Annotated[
        Kind | None,
        typer.Option(help="Before or after the projection; the protocol's own if not given."),
    ] = None,
    features: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of features of one of the parts; may be repeated."),
    ] = None,
    metric: Annotated[Share, typer.Option(help="What is counted (paper).")] = Share.top1,
    held_out: Annotated[
        float | None,
        typer.Option(help="Share of --train to choose by; 0.2 (paper), none (clip_benchmark)."),
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="At the start (clip_benchmark).")] = 0.1,
    epochs: Annotated[int, typer.Option(help="Passes (clip_benchmark).", min=1)] = 10,
    batch_size: Annotated[int, typer.Option(help="Of a step (clip_benchmark).", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Of splits, draws and intervals.", min=0)] = 0,
    classes: Names = "",
    limit: Limit = None,
    threads: Threads = 2,
    device: Device = "auto",
    output: RecordFile = None,
    detail: Details = None,
) -> None:
    """Fit a linear classifier to frozen image features, by one of two protocols."""
    few = _shots(shots)
    adamw = AdamWProbe(learning_rate, epochs, batch_size, few[0] if few else None, held_out, seed)
    asked = _Asked(protocol, few, repeats, metric.value, held_out, seed, adamw)
    chosen = _kind(protocol, kind)
    _check(asked, output)
    stored = [Embedded.open(folder) for folder in features or ()]
    pretrained = as_read_by(load(model, pick_device(device)), protocol.value)
    specs = {"train": train, "test": test} | ({"validation": validation} if validation else {})
    plan = reading(pretrained, classes)
    opened = {
        name: open_split(spec, plan, "val" if name == "validation" else name)
        for name, spec in specs.items()
    }
    kept = _matched(opened, stored)
    sets: dict[str, Labelled] = {}
    with watching(*opened) as told:
        for name, one in opened.items():
            how = Pictures(limit, threads, stored=kept.get(name))
            sets[name] = frozen_features(pretrained, one.source, chosen.value, how, told[name])
    data = {name: one.identity(limit) for name, one in opened.items()}
    who = identify_model(pretrained, model)
    origin = Origin.of(pretrained, who, data, seed, kept)
    with Console(stderr=True).status("fitting"):
        record, table, figures = _measured(sets, asked, origin)
    Console().print(table)
    if output is not None:
        write_record(record, output)
    if detail is not None:
        skipped = {name: one.skipped for name, one in sets.items()}
        write_figures({**figures, "skipped": skipped}, detail)


def _matched(opened: Mapping[str, Opened], stored: Sequence[Embedded]) -> dict[str, Embedded]:
    """Return the features of each part that has some."""
    by_data = {one.meta["data"]["identity"]: one for one in stored}
    found = {
        name: by_data[one.source.identity]
        for name, one in opened.items()
        if one.source.identity in by_data
    }
    for one in stored:
        if one not in found.values():
            raise ConfigError(
                f"the features in {one.folder} are of none of the parts: they were made of "
                f"'{one.meta['data']['name']}'"
            )
    return found


def _measured(
    sets: Mapping[str, Labelled], asked: _Asked, origin: Origin
) -> tuple[Record, Table, Mapping[str, object]]:
    """Return the record, what to show, and all figures."""
    train, test, validation = sets["train"], sets["test"], sets.get("validation")
    if asked.rules is Rules.clip_benchmark:
        result = adamw_probe(train, test, validation, asked.adamw)
        record = adamw_probe_record(result, origin, sets)
        return record, adamw_table(result), adamw_figures(result)
    probe = Probe(asked.metric, asked.held_out or HELD_OUT, asked.seed)
    if asked.shots:
        few = [
            few_shot_probe(train, test, count, validation, repeats=asked.repeats, probe=probe)
            for count in asked.shots
        ]
        record = few_shot_record(few[0], origin, sets)
        return record, few_table(few), {"few_shot": [few_figures(one) for one in few]}
    whole = measure(train, test, validation, probe)
    return paper_probe_record(whole, origin, sets), whole_table(whole), whole_figures(whole)


def _kind(protocol: Rules, kind: Kind | None) -> Kind:
    own = Kind.projected if protocol is Rules.clip_benchmark else Kind.penultimate
    if protocol is Rules.clip_benchmark and kind is Kind.penultimate:
        raise ConfigError(
            "CLIP_benchmark probes projected features: leave --kind out, or take --protocol paper"
        )
    return kind or own


def _check(asked: _Asked, output: Path | None) -> None:
    one_only = asked.rules is Rules.clip_benchmark or output is not None
    if one_only and len(asked.shots) > 1:
        raise ConfigError(
            f"--shots names {len(asked.shots)} numbers, but a record (--json), or a probe of "
            "CLIP_benchmark's, is of one: run the command once for each, or take --details"
        )


def _shots(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")] if text.strip() else []
    except ValueError:
        counts = [0]
    if any(count < 1 for count in counts):
        raise ConfigError(f"--shots is '{text}': write counts of 1 or more, as --shots 1,2,4,8,16")
    return counts
