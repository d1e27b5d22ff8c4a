"""`bifocal evaluate contamination`: what training has seen of a test set, and its worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bifocal.cli.arguments import (
    BatchSize,
    Device,
    FiguresFile,
    Limit,
    MaxBad,
    Model,
    Names,
    Sentences,
    Split,
    Threads,
)
from bifocal.cli.embed import goes_on, named
from bifocal.cli.figures import bounds, reading, write_figures
from bifocal.data.perceptual import NEAR
from bifocal.data.sample import Source
from bifocal.embed import Embedded, Job, embed
from bifocal.embed import Names as Called
from bifocal.embed.job import What
from bifocal.errors import ConfigError
from bifocal.evaluate.contamination import (
    Contamination,
    Neighbours,
    Side,
    asked,
    classified,
    neighbours,
    recalled,
)
from bifocal.evaluate.contamination import contamination as measure
from bifocal.evaluate.opening import open_split
from bifocal.evaluate.statistics import Interval
from bifocal.identity import JSON
from bifocal.inputs.prompts import PHOTO
from bifocal.interop.load import load
from bifocal.pretrained import Pretrained
from bifocal.train.folders import one_message
from bifocal.world import pick_device

QUANTILES = (0.5, 0.9, 0.99, 1.0)
REPORT = "contamination.html"


def contamination(
    model: Model,
    train: Annotated[str, typer.Argument(help="Pictures that the model was trained on.")],
    test: Annotated[str, typer.Argument(help="Pictures with labels or captions to test on.")],
    threshold: Annotated[
        float | None, typer.Option(help="Least cosine of a copy; set it after a look at pairs.")
    ] = None,
    distance: Annotated[
        int, typer.Option(help="Bits by which a copy's hash may differ.", min=0, max=20)
    ] = NEAR,
    detector: Annotated[
        str, typer.Option(help="Model whose features find copies; MODEL itself if empty.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder of the page and of the features.")] = Path(
        "contamination"
    ),
    template: Sentences = None,
    recall_at: Annotated[int, typer.Option(help="k of recall@k, without labels.", min=1)] = 1,
    classes: Names = "",
    split: Split = "test",
    limit: Limit = None,
    batch_size: BatchSize = 128,
    max_bad: MaxBad = 0.1,
    threads: Threads = 2,
    device: Device = "auto",
    output: FiguresFile = None,
) -> None:
    """Find test pictures that training has seen, and what they are worth (paper section 5).

    Features stay in --out, so that another --threshold is tried at once.
    """
    if threshold is not None and not -1 <= threshold <= 1:
        raise ConfigError(f"--threshold is {threshold}: a cosine is between -1 and 1")
    pretrained = load(model, pick_device(device))
    finder = load(detector, pretrained.device) if detector else pretrained
    known = open_split(train, reading(finder), "train").source
    new = open_split(test, reading(finder, classes), split).source
    work = _Work(out, threads, Job(limit=limit, batch_size=batch_size, max_bad=max_bad))
    captioned: What = "images" if new.class_names else "both"
    names = Called(model=named(detector or model), data=train)
    sides = {"train": Side(known, work.features("train", finder, known, names, hashes=True))}
    names = Called(model=named(detector or model), data=test)
    what = "images" if detector else captioned
    own = work.features("test", finder, new, names, hashes=True, what=what)
    sides["test"] = Side(new, own)
    if detector:
        names = Called(model=named(model), data=test)
        own = work.features("measured", pretrained, new, names, what=captioned)
    found = neighbours(sides["test"].features, sides["train"].features, distance, finder.device)
    overlap = found.overlap(threshold, distance)
    right, figure = _right(pretrained, Side(new, own), template, recall_at)
    result = measure(right, overlap, figure)
    Console().print(_table(result, found, threshold))
    from bifocal.cli.contamination_page import write_page  # its plots take a second to import

    with one_message(f"write {out / REPORT}"):
        page = write_page(result, found, overlap, sides, threshold, out / REPORT)
    Console().print(f"pairs side by side: {page}", highlight=False, soft_wrap=True)
    if output is not None:
        match = asked(threshold, distance)
        write_figures(_figures(result, found, overlap, sides, match), output)


@dataclass(frozen=True)
class _Work:
    """Where features are kept, and how they are made."""

    out: Path
    threads: int
    job: Job

    def features(
        self,
        name: str,
        pretrained: Pretrained,
        source: Source,
        names: Called,
        **settings: object,
    ) -> Embedded:
        job = self.job.model_copy(update={"names": names, **settings})
        console = Console(stderr=True)
        console.print(f"{name}: {job.samples(source):,} samples", highlight=False)
        with goes_on(console, self.out) as told:
            return embed(pretrained, source, self.out / name, job, threads=self.threads, watch=told)


def _right(
    pretrained: Pretrained, test: Side, template: list[str] | None, k: int
) -> tuple[Tensor, str]:
    if test.source.class_names:
        return classified(pretrained, test, template or PHOTO), "top1"
    return recalled(pretrained, test, k), f"image_to_text_recall@{k}"


def _table(result: Contamination, found: Neighbours, threshold: float | None) -> Table:
    figure = result.figure.rpartition("_")[2]
    copies = f"looks, or cosine ≥ {threshold}" if threshold is not None else "looks alone"
    quantiles = torch.quantile(found.cosines, found.cosines.new_tensor(QUANTILES)).tolist()
    shown = ", ".join(
        f"{'max' if q == 1 else f'{q:.0%}'} {value:.3f}"
        for q, value in zip(QUANTILES, quantiles, strict=True)
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=f"nearest cosines: {shown}")
    table.add_column(f"copies by {copies}")
    for title in ("images", figure, "interval", "level"):
        table.add_column(title, justify="right")
    for name, images, one in result.parts:
        figures = ("", "", "") if one is None else _shown(one)
        table.add_row(name, f"{images:,}", *figures)
    if result.inflation is not None:
        table.add_row("All - Clean", "", *_shown(result.inflation))
    if result.p_value is not None:
        table.add_row("p (Overlap ≤ Clean)", "", f"{result.p_value:.3g}", "one-tailed", "")
    return table


def _shown(one: Interval) -> tuple[str, str, str]:
    return f"{one.value:.2%}", bounds(one), f"{one.level:.1%}".replace(".0%", "%")


def _figures(
    result: Contamination,
    found: Neighbours,
    overlap: Tensor,
    sides: Mapping[str, Side],
    match: Mapping[str, JSON],
) -> dict[str, object]:
    test, train = sides["test"].features, sides["train"].features
    copied = overlap.nonzero()[:, 0].tolist()
    seen = [found.shown(row) for row in copied]
    pairs = zip(copied, test.keys(copied), train.keys(seen), strict=True)
    inflation = result.inflation
    return {
        **asdict(result),
        "share": result.share,
        "inflation": None if inflation is None else asdict(inflation),
        "match": match,
        "model": test.meta["model"],
        "test": test.meta["data"] | {"skipped": test.skipped},
        "train": train.meta["data"] | {"skipped": train.skipped},
        "pairs": [
            {
                "test": test_key,
                "train": train_key,
                "cosine": round(float(found.cosines[row]), 5),
                "bits": int(found.bits[row]) if found.twins[row] >= 0 else None,
                "resemblance": _rounded(float(found.resemblance[row])),
            }
            for row, test_key, train_key in pairs
        ],
    }


def _rounded(value: float) -> float | None:
    # JSON has no word for what is not a number.
    return None if math.isnan(value) else round(value, 5)
