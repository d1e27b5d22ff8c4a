"""Linear probes: splits, protocols, penultimate features, and what each refuses."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
import torch.nn.functional as F

from bifocal.data.scenes import SceneClassSource, SceneSource
from bifocal.errors import ConfigError, DataError
from bifocal.evaluate.frozen import Labelled, frozen_features
from bifocal.evaluate.linear_probe import Probe, few_shot_probe, linear_probe
from bifocal.evaluate.logistic import LogisticProblem
from bifocal.evaluate.splits import few_shot, stratified
from bifocal.evaluate.sweep import best_strength

NAMES = tuple("abcdef")


def clusters(each: int, seed: int, spread: float = 0.5, classes: int = 6) -> Labelled:
    """Examples around one centre a class; a wide spread makes some of them wrong."""
    centres = torch.randn(6, 8, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(classes).repeat_interleave(each)
    noise = torch.randn(len(labels), 8, generator=torch.Generator().manual_seed(seed))
    return Labelled(centres[labels] + spread * noise, labels, NAMES)


@pytest.mark.parity
def test_penultimate_features_are_those_before_the_projection(tiny, random_pretrained):
    clip = random_pretrained(tiny)
    size = tiny.vision.image_size
    source = SceneClassSource(9, 0, image_size=size, seen=True)
    found = frozen_features(clip, source)
    projected = frozen_features(clip, source, "projected")
    assert torch.allclose(projected.features.norm(dim=1), torch.ones(9), atol=1e-5)
    features = found.features
    if hasattr(clip.model.visual, "proj"):
        assert features.shape == (9, tiny.vision.width)
        features = features @ clip.model.visual.proj.detach()
    else:
        assert not torch.allclose(features.norm(dim=1), torch.ones(9), atol=1e-2)
    assert torch.allclose(F.normalize(features, dim=1), projected.features, atol=1e-5)
    assert found.labels.tolist() == [source.label(n) for n in range(9)]
    assert (found.class_names, found.skipped) == (source.class_names, 0)


@pytest.mark.behaviour
def test_the_paper_s_protocol_is_followed():
    train, test = clusters(40, 0, 1.5), clusters(200, 1, 1.5)
    found = linear_probe(train, test)
    assert (found.train, found.validation, found.test, found.classes) == (192, 48, 1200, 6)
    assert (found.protocol, found.features) == ("radford-2021-A.3", "penultimate")
    assert found.unconverged == 0
    assert best_strength(dict(found.swept)) == found.C
    # The classifier is fitted to all training examples with that C.
    fit = LogisticProblem(train.features, train.labels).fit(found.C)
    right = fit.logits(test.features).argmax(dim=1) == test.labels
    assert found.accuracy == pytest.approx(right.double().mean().item(), abs=0.002)
    assert (found.right == right).double().mean() > 0.998
    assert found.interval.low < found.accuracy < found.interval.high
    assert found.interval.value == found.accuracy
    # C is what validation says, on a model of the rest.
    rows, held_out = stratified(train.labels, 0.2, 0)
    part = LogisticProblem(train.features[rows], train.labels[rows])
    for c, accuracy in found.swept:
        guesses = part.fit(c).logits(train.features[held_out]).argmax(dim=1)
        shown = (guesses == train.labels[held_out]).double().mean().item()
        assert accuracy == pytest.approx(shown, abs=0.03), c


@pytest.mark.behaviour
def test_a_given_validation_set_is_used_and_then_learned():
    train, validation, test = clusters(20, 0, 1.2), clusters(10, 1, 1.2), clusters(100, 2, 1.2)
    found = linear_probe(train, test, validation)
    assert (found.train, found.validation) == (120, 60)
    joined = train.join(validation)
    fit = LogisticProblem(joined.features, joined.labels).fit(found.C)
    right = fit.logits(test.features).argmax(dim=1) == test.labels
    assert found.accuracy == pytest.approx(right.double().mean().item(), abs=0.005)


@pytest.mark.property
def test_a_probe_follows_from_its_seed():
    train, test = clusters(30, 0, 2.0), clusters(50, 1, 2.0)
    found, again = linear_probe(train, test), linear_probe(train, test)
    assert found.swept == again.swept
    assert torch.equal(found.right, again.right)
    other = linear_probe(train, test, probe=Probe(seed=1))
    assert other.swept != found.swept
    assert other.seed == other.interval.seed == 1


@pytest.mark.golden
def test_the_mean_over_classes_weighs_rare_ones_alike():
    # 90 of class 0 and 10 of class 1 that no feature tells apart: guessing 0 is right in 90 %, and
    # in one half of the mean over classes.
    labels = (torch.arange(100) >= 90).long()
    said_nothing = Labelled(torch.ones(100, 3), labels, NAMES[:2])
    plain = linear_probe(said_nothing, said_nothing)
    assert plain.accuracy == pytest.approx(0.9)
    found = linear_probe(said_nothing, said_nothing, probe=Probe(metric="mean_per_class"))
    assert found.accuracy == pytest.approx(0.5)
    assert found.metric == "mean_per_class"


@pytest.mark.property
def test_splits_are_stratified_and_whole():
    labels = torch.tensor([0] * 10 + [2] * 3 + [5] * 2 + [7])
    rows, held_out = stratified(labels, 0.2, 0)
    assert sorted([*rows.tolist(), *held_out.tolist()]) == list(range(16))
    assert torch.bincount(labels[held_out], minlength=8).tolist() == [2, 0, 1, 0, 0, 1, 0, 0]
    assert not torch.equal(stratified(labels, 0.2, 1)[1], held_out)
    assert torch.equal(stratified(labels, 0.2, 0)[1], held_out)
    names = tuple("abcdefgh")
    rows, others = few_shot(labels[:15], names, 1, 0, choose=True)
    for part in (rows, others):
        assert sorted(labels[part].tolist()) == [0, 2, 5]
    assert not set(rows.tolist()) & set(others.tolist())
    assert len(few_shot(labels, names, 1, 0, choose=False)[1]) == 0
    drawn = {int(few_shot(labels[:10], names, 1, seed, choose=False)[0]) for seed in range(60)}
    assert drawn == set(range(10))


@pytest.mark.behaviour
def test_few_shots_are_few_and_more_of_them_are_better():
    train, test = clusters(20, 0, 1.0), clusters(100, 1, 1.0)
    found = {shots: few_shot_probe(train, test, shots, repeats=2) for shots in (1, 16)}
    for shots, few in found.items():
        accuracies = [result.accuracy for result in few.results]
        assert few.shots == shots
        assert [result.train for result in few.results] == [6 * shots] * 2
        assert few.results[0].validation == 6 * min(shots, 4)
        assert [result.seed for result in few.results] == [0, 1]
        assert few.mean == pytest.approx(statistics.fmean(accuracies))
        assert few.std == pytest.approx(statistics.stdev(accuracies))
        assert few.results[0].protocol == f"few-shot-{shots}"
    assert found[1].mean < found[16].mean
    once = few_shot_probe(train, test, 16, clusters(5, 2), repeats=1)
    assert once.std is None
    assert once.results[0].validation == 30
    # The classifier of a few-shot probe has seen the few alone.
    rows, _ = few_shot(train.labels, NAMES, 16, 0, choose=False)
    fit = LogisticProblem(train.features[rows], train.labels[rows]).fit(once.results[0].C)
    right = fit.logits(test.features).argmax(dim=1) == test.labels
    assert once.mean == pytest.approx(right.double().mean().item(), abs=0.01)


@pytest.mark.behaviour
def test_what_cannot_be_probed_is_said():
    train, test = clusters(6, 0), clusters(6, 1)
    with pytest.raises(DataError, match=r"class 'a' has 6 training.*8 shots need 8 .* and 4 to"):
        few_shot_probe(train, test, 8)
    with pytest.raises(DataError, match=r"8 shots need 8 a class$"):
        few_shot_probe(train, test, 8, test)
    with pytest.raises(DataError, match=r"test pictures have classes that no .*: 2 \(e, f\)"):
        linear_probe(clusters(6, 0, classes=4), test)
    with pytest.raises(DataError, match="validation pictures have classes"):
        linear_probe(clusters(6, 0, classes=4), clusters(6, 1, classes=4), test)
    other = Labelled(test.features, test.labels, tuple("abcdeg"))
    with pytest.raises(DataError, match="training and test pictures have different classes"):
        linear_probe(train, other)
    with pytest.raises(DataError, match="of 1 class: a classifier needs two"):
        linear_probe(clusters(6, 0, classes=1), clusters(6, 1, classes=1))
    with pytest.raises(DataError, match="a single example, so none can be held out"):
        linear_probe(clusters(1, 0), test)
    with pytest.raises(ConfigError, match="held_out is 1"):
        Probe(held_out=1.0)


@pytest.mark.behaviour
def test_a_probe_needs_labels(tiny_vit, random_pretrained):
    with pytest.raises(DataError, match="no classes: a probe needs"):
        frozen_features(random_pretrained(tiny_vit), SceneSource(4, 0, image_size=16))


@pytest.mark.behaviour
def test_fits_that_did_not_converge_are_counted():
    found = linear_probe(clusters(30, 0, 2.0), clusters(9, 1), probe=Probe(max_iterations=2))
    assert found.unconverged > 1
    assert math.isfinite(found.accuracy)
