"""The report of a training run, composed from its log and its last evaluation."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from bifocal import __version__
from bifocal.cli.evaluations import Evaluations
from bifocal.data.loader import read_image
from bifocal.data.sample import Source
from bifocal.evaluate.metrics import confusion
from bifocal.evaluate.retrieval import RetrievalResult
from bifocal.evaluate.zero_shot import ZeroShotResult
from bifocal.report.gallery import Hit, Prediction, Query, predictions, retrievals
from bifocal.report.page import Card, Page, Section
from bifocal.report.tables import Table, settings_list, table_html
from bifocal.train.hooks import Metrics
from bifocal.train.log import read_metrics
from bifocal.train.state import Run

QUERIES = 6
HITS = 5
MATRIX = 32
FEW_CLASSES = 100


def write_report(
    run: Run, evaluations: Evaluations, metrics: Metrics, out: Path, extra: Sequence[Section] = ()
) -> Path:
    """Write `report.html` into the run's folder and return its path."""
    pairs = run.config.data.batch_size
    sections = [Section("Training", _curves(run, evaluations, out), columns=2), *extra]
    if evaluations.retrieval is not None and evaluations.validation is not None:
        sections += _retrieval(evaluations.retrieval, evaluations.validation)
    for name, result in evaluations.zero_shot.items():
        sections.append(_zero_shot(name, result, evaluations.labelled[name]))
    sections += [
        Section("Figures", [table_html(Table(_rows(metrics)))]),
        Section("Settings", [settings_list(run.config.model_dump(mode="json"))]),
        Section("Environment", [settings_list(environment(run))]),
    ]
    total = sum(p.numel() for p in run.model.parameters())
    page = Page(
        title=f"bifocal run {out.name}",
        subtitle=f"{total:,} parameters, {run.step:,} steps of {pairs} pairs, "
        f"{datetime.now():%d %B %Y %H:%M}",
        cards=_cards(metrics),
        sections=sections,
        warnings=_warnings(run),
        footer=f"bifocal {__version__}",
    )
    return page.write(out / "report.html")


def environment(run: Run) -> dict[str, str]:
    """Return what a reader needs to judge a rate."""
    return {
        "bifocal": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(run.world.device),
        "threads": str(torch.get_num_threads()),
        "processor": torch.backends.cpu.get_cpu_capability(),
    }


def prediction(
    image: np.ndarray, probabilities: torch.Tensor, names: Sequence[str], truth: int | None
) -> Prediction:
    """Return a picture's five likeliest labels for a gallery."""
    best = probabilities.topk(min(5, len(names)))
    labels = [
        (str(names[n]), float(value))
        for n, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return Prediction(image, labels, None if truth is None else names[truth])


def _curves(run: Run, evaluations: Evaluations, out: Path) -> list[str]:
    # What draws is imported where it draws: matplotlib is slow to start.
    from bifocal.report.curves import TRAINING_CURVES, Curve, Line, training_curves

    rows = [
        {key.removeprefix("val/"): value for key, value in row.items()} for row in read_metrics(out)
    ]
    names = list(evaluations.zero_shot)
    accuracy = Curve(
        "Zero-shot top-1",
        tuple(Line(f"{name}/top1", name, best="max") for name in names),
        percent=True,
    )
    # The validation loss of a page's own log stands in the column "validation_loss".
    for row in rows:
        if row["kind"] == "evaluation" and "loss" in row:
            row["validation_loss"] = row.pop("loss")
    curves = [accuracy if c.title.startswith("Zero-shot") else c for c in TRAINING_CURVES]
    chance = {f"{name}/top1": 1 / len(r.class_names) for name, r in evaluations.zero_shot.items()}
    if evaluations.retrieval is not None:
        found = evaluations.retrieval.metrics()
        ways = ("image_to_text", "text_to_image")
        chance |= {f"{way}_recall@10": found[f"{way}_chance@10"] for way in ways}
    figures = training_curves(
        rows, chance=chance, pairs_per_step=run.config.data.batch_size, curves=curves
    )
    return list(figures)


def _retrieval(result: RetrievalResult, source: Source) -> list[Section]:
    from bifocal.report.matrix import HeatMap, heat_map

    picked = torch.linspace(0, len(result.image_features) - 1, MATRIX).long().unique()
    first = torch.searchsorted(result.owners, picked)
    scores = result.image_features[picked] @ result.text_features[first].T
    matrix = HeatMap(
        "Similarity of held-out pairs",
        scores.numpy(),
        rows="picture",
        columns="caption",
        column_names=[result.captions[n] for n in first.tolist()],
        thumbnails=[_picture(source, result.indices[n]) for n in picked.tolist()],
        note="cosine similarity; a picture's own caption is on the diagonal",
    )
    texts = [_text_query(result, source, n) for n in first[:: len(first) // QUERIES].tolist()]
    pictures = [
        _picture_query(result, source, n) for n in picked[:: len(picked) // QUERIES].tolist()
    ]
    return [
        Section("Similarity", [heat_map(matrix)]),
        Section("Captions find pictures", [retrievals(texts[:QUERIES])]),
        Section("Pictures find captions", [retrievals(pictures[:QUERIES])]),
    ]


def _text_query(result: RetrievalResult, source: Source, text: int) -> Query:
    best = (result.image_features @ result.text_features[text]).topk(HITS)
    owner = int(result.owners[text])
    hits = [
        Hit(score, row == owner, image=_picture(source, result.indices[row]))
        for score, row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    return Query(hits, text=result.captions[text], rank=int(result.text_to_image[text]) + 1)


def _picture_query(result: RetrievalResult, source: Source, row: int) -> Query:
    best = (result.text_features @ result.image_features[row]).topk(HITS)
    hits = [
        Hit(score, int(result.owners[n]) == row, text=result.captions[n])
        for score, n in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    image = _picture(source, result.indices[row])
    return Query(hits, image=image, rank=int(result.image_to_text[row]) + 1)


def _zero_shot(name: str, result: ZeroShotResult, source: Source) -> Section:
    shown = torch.linspace(0, len(result.labels) - 1, 6).long().tolist()
    gallery = predictions(
        [
            prediction(
                _picture(source, result.indices[n]),
                result.logits[n].softmax(0),
                result.class_names,
                int(result.labels[n]),
            )
            for n in shown
        ]
    )
    blocks: list[str] = [gallery]
    if len(result.class_names) <= FEW_CLASSES:
        from bifocal.report.confusion import class_accuracy, confusion_matrix

        guesses = result.logits.argmax(dim=1)
        counts = confusion(guesses, result.labels, len(result.class_names)).numpy()
        blocks += [
            confusion_matrix(counts, result.class_names),
            table_html(class_accuracy(counts, result.class_names)),
        ]
    return Section(f"Zero-shot: {name}", blocks)


def _picture(source: Source, index: torch.Tensor) -> np.ndarray:
    return read_image(source.read(int(index))).permute(1, 2, 0).numpy()


def _cards(metrics: Metrics) -> list[Card]:
    cards = []
    for key, value in metrics.items():
        name, _, metric = key.partition("/")
        if metric == "top1":
            detail = f"chance {metrics[f'{name}/chance']:.1%}"
            cards.append(Card(f"zero-shot {name}", f"{value:.1%}", detail))
        elif metric.endswith("recall@10"):
            way = metric.removesuffix("_recall@10")
            detail = f"chance {metrics[f'{name}/{way}_chance@10']:.1%}"
            cards.append(Card(f"{way.replace('_', ' ')} R@10", f"{value:.1%}", detail))
    return cards


def _rows(metrics: Metrics) -> list[dict[str, object]]:
    return [{"figure": name, "value": value} for name, value in metrics.items()]


def _warnings(run: Run) -> list[str]:
    warnings = [
        f"{count} samples skipped in {place}: {reason}"
        for (place, reason), count in run.skips.counts.most_common(20)
    ]
    if run.skips.truncated:
        warnings.append(
            f"{run.skips.truncated:,} of {run.skips.seen:,} captions were cut to the context of "
            f"{run.model.context_length} tokens"
        )
    return warnings
