"""Records of measurements: each metric follows from its outcomes; each example has its picture."""

from __future__ import annotations

import pytest
import torch

from bifocal.data.scenes import SceneClassSource, SceneSource
from bifocal.evaluate.classifier import Prompting
from bifocal.evaluate.frozen import Labelled
from bifocal.evaluate.linear_probe import Probe, few_shot_probe, linear_probe
from bifocal.evaluate.probe_results import few_shot_record, paper_probe_record
from bifocal.evaluate.protocol import CLIP_BENCHMARK, PAPER, PLAIN
from bifocal.evaluate.record import Record
from bifocal.evaluate.results import Origin, retrieval_record, zero_shot_record
from bifocal.evaluate.retrieval import retrieve
from bifocal.evaluate.statistics import interval
from bifocal.evaluate.zero_shot import classify
from bifocal.identity import DataIdentity, ModelIdentity

ORIGIN = Origin(
    ModelIdentity("m", "w", "c", "t", {}), DataIdentity("d", "i", 60), {"device": "cpu"}, seed=3
)


def blobs(count: int, seed: int) -> Labelled:
    centres = torch.randn(4, 6, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    features = centres[labels] + 1.5 * torch.randn(count, 6, generator=generator)
    return Labelled(features, labels, tuple("abcd"), indices=torch.arange(count))


def check(record: Record) -> None:
    """Every metric with outcomes is their mean, and its interval holds it."""
    measured = [name for name in record.metrics if name in record.outcomes]
    assert measured
    for name in measured:
        values, classes = record.outcomes[name], record.outcomes.get(f"{name}.class")
        assert record.units(name) is not None
        if name.endswith("mean_rank"):
            assert record.metrics[name] == values.mean().item() >= 1
            continue
        found = interval(values, classes=classes)
        assert record.metrics[name] == pytest.approx(found.value)
        assert record.intervals[name].value == pytest.approx(record.metrics[name])
        assert record.intervals[name].seed == 3
        assert record.settings["device"] == "cpu"


@pytest.mark.property
@pytest.mark.parametrize("rules", [PLAIN, CLIP_BENCHMARK], ids=lambda one: one.name)
def test_zero_shot_records(tiny_vit, random_pretrained, rules):
    source = SceneClassSource(60, 0, 16, seen=True)
    prompting = Prompting(("a {}", "the {}"), protocol=rules)
    result = classify(random_pretrained(tiny_vit), source, prompting)
    record = zero_shot_record(result, ORIGIN, ("a {}", "the {}"))
    check(record)
    assert record.protocol == rules.name
    assert record.outcomes["unit"].tolist() == list(range(60))
    assert record.settings["rules"] == rules.settings()
    assert record.settings["class_names"] == list(source.class_names)
    other = classify(random_pretrained(tiny_vit), source, Prompting(("a {}",), protocol=rules))
    named = zero_shot_record(other, ORIGIN).settings
    assert named["prompts_sha256"] != record.settings["prompts_sha256"]
    assert named["class_names_sha256"] == record.settings["class_names_sha256"]


@pytest.mark.property
@pytest.mark.parametrize("rules", [PLAIN, PAPER, CLIP_BENCHMARK], ids=lambda one: one.name)
def test_retrieval_records(tiny_vit, random_pretrained, rules):
    result = retrieve(
        random_pretrained(tiny_vit), SceneSource(40, 0, 16, split="val"), protocol=rules
    )
    record = retrieval_record(result, ORIGIN)
    check(record)
    by_picture, by_caption = result.ways()
    assert record.outcomes[f"{by_picture}_recall@1.unit"].tolist() == list(range(40))
    units = record.outcomes[f"{by_caption}_recall@5.unit"]
    assert torch.equal(units, result.indices[result.owners])


@pytest.mark.property
@pytest.mark.parametrize("metric", ["top1", "mean_per_class"])
def test_records_of_the_papers_probes(metric):
    train, test = blobs(80, 1), blobs(61, 2)
    probe = Probe(metric=metric, seed=3)
    sets = {"train": train, "test": test}
    whole = paper_probe_record(linear_probe(train, test, None, probe), ORIGIN, sets)
    check(whole)
    assert (whole.protocol, whole.settings["features"]) == ("paper", "penultimate")
    few = few_shot_probe(train, test, 2, repeats=2, probe=probe)
    record = few_shot_record(few, ORIGIN, sets)
    check(record)
    assert (record.protocol, record.settings["draws"]) == ("paper-2-shot", 2)
    name = "top1" if metric == "top1" else "mean_per_class_recall"
    assert record.metrics[name] == pytest.approx(few.mean)
    assert set(record.outcomes[name].tolist()) <= {0.0, 0.5, 1.0}
