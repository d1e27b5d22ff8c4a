"""The probe by AdamW: the same weights as a plain loop over torch's own layer and loader."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from bifocal.errors import ConfigError, DataError
from bifocal.evaluate import adamw_probe as module
from bifocal.evaluate.adamw_probe import AdamWProbe, adamw_probe, fit
from bifocal.evaluate.decays import DECAYS, FIRST_DECAYS, search
from bifocal.evaluate.frozen import Labelled

NAMES = tuple("abcdefg")


def blobs(count: int, seed: int, classes: int = 7, noise: float = 0.6) -> Labelled:
    """Unit features scattered about one direction a class."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 12, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % classes
    features = centres[labels] + noise * 3 * torch.randn(count, 12, generator=generator)
    unit = torch.nn.functional.normalize(features, dim=1)
    return Labelled(unit, labels, NAMES[:classes], "projected", indices=torch.arange(count))


def plain_fit(train: Labelled, classes: int, decay: float, probe: AdamWProbe) -> torch.nn.Linear:
    """The oracle: torch's layer, loader and optimiser, seeded as a script would do it."""
    torch.manual_seed(probe.seed)
    layer = torch.nn.Linear(train.features.shape[1], classes)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=probe.learning_rate, weight_decay=decay)
    pairs = TensorDataset(train.features, train.labels)
    loader = DataLoader(pairs, batch_size=probe.batch_size, shuffle=True)
    done = 0
    for _ in range(probe.epochs):
        for features, labels in loader:
            share = done / (probe.epochs * len(loader))
            optimizer.param_groups[0]["lr"] = (
                probe.learning_rate * (1 + math.cos(math.pi * share)) / 2
            )
            loss = torch.nn.functional.cross_entropy(layer(features), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
    return layer


def plain_search(scores: list[float]) -> int:
    """The oracle: every round scored anew, the list of seven found again among the 97."""

    def peak(numbers: list[int]) -> int:
        best, most = 0, 0.0
        for n in numbers:
            if scores[n] > most:
                best, most = n, scores[n]
        return best

    decays = np.logspace(-6, 2, num=97).tolist()
    first = np.logspace(-6, 2, num=7).tolist()
    best = peak([n for n, decay in enumerate(decays) if decay in first])
    for stride in (8, 4, 2, 1):
        best = peak([max(best - stride, 0), best, min(best + stride, 96)])
    return best


@pytest.mark.parity
@pytest.mark.parametrize("decay", [0.0, 0.01, 10.0])
def test_a_fit_is_that_of_a_seeded_script(decay):
    train = blobs(150, seed=1)
    probe = AdamWProbe(epochs=3, batch_size=32, seed=5)
    before = torch.get_rng_state()
    found = fit(train, 7, decay, probe)
    assert torch.equal(torch.get_rng_state(), before)
    layer = plain_fit(train, 7, decay, probe)
    assert torch.equal(found.weights, layer.weight)
    assert torch.equal(found.bias, layer.bias)


@pytest.mark.property
def test_the_search_tries_what_the_plain_one_tries():
    decays = np.logspace(-6, 2, num=97)
    assert list(DECAYS) == decays.tolist()
    assert [DECAYS[n] for n in FIRST_DECAYS] == pytest.approx(np.logspace(-6, 2, num=7).tolist())
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        # Few levels, so that many scores tie.
        scores = (torch.randint(0, 4, (97,), generator=generator) / 3).tolist()
        found: dict[int, float] = {}
        assert search(lambda n, s=scores: s[n], found) == plain_search(scores), seed
        assert all(scores[n] == score for n, score in found.items())


@pytest.mark.parity
def test_a_whole_probe_is_that_of_a_seeded_script():
    train, validation, test = blobs(140, 1), blobs(70, 2), blobs(210, 3)
    probe = AdamWProbe(epochs=2, batch_size=64, seed=3)
    found = adamw_probe(train, test, validation, probe)
    torch.manual_seed(3)
    learned = train.take(torch.randperm(140))
    scores: dict[int, float] = {}
    for n, decay in enumerate(DECAYS):
        layer = plain_fit(learned, 7, decay, probe)
        right = layer(validation.features).argmax(dim=1) == validation.labels
        scores[n] = right.double().mean().item()
    decay = DECAYS[plain_search([scores[n] for n in range(97)])]
    layer = plain_fit(learned.join(validation), 7, decay, probe)
    with torch.no_grad():
        logits = layer(test.features)
    assert found.weight_decay == decay
    assert torch.equal(found.logits, logits)
    right = logits.argmax(dim=1) == test.labels
    metrics = found.metrics()
    assert metrics["lp_acc1"] == right.double().mean().item()
    assert metrics["lp_acc1"] < metrics["lp_acc5"] < 1
    each = [right[test.labels == c].double().mean().item() for c in range(7)]
    assert metrics["lp_mean_per_class_recall"] == pytest.approx(sum(each) / 7)
    assert (found.train, found.validation) == (140, 70)


@pytest.mark.behaviour
def test_intervals_hold_their_figures_and_say_their_seed():
    found = adamw_probe(blobs(140, 1), blobs(210, 3), None, AdamWProbe(epochs=2, seed=7))
    assert found.weight_decay == 0
    assert not found.swept
    metrics = found.metrics()
    for name, interval in found.intervals().items():
        assert interval.low < interval.value < interval.high
        assert interval.value == pytest.approx(metrics[name])
        assert interval.seed == 7


@pytest.mark.behaviour
def test_few_shots_learn_from_that_many_and_not_from_the_validation(monkeypatch):
    seen: list[Labelled] = []
    plain = module.fit
    monkeypatch.setattr(
        module, "fit", lambda train, *rest: seen.append(train) or plain(train, *rest)
    )
    train, test = blobs(140, 1), blobs(70, 3)
    found = adamw_probe(train, test, blobs(70, 2), AdamWProbe(epochs=1, shots=4))
    assert found.train == 28
    for learned in seen:
        assert learned.labels.bincount().tolist() == [4] * 7


@pytest.mark.behaviour
def test_a_part_of_the_training_examples_is_held_out():
    found = adamw_probe(blobs(140, 1), blobs(70, 3), None, AdamWProbe(epochs=1, held_out=0.25))
    assert (found.train, found.validation) == (105, 35)
    assert found.weight_decay in dict(found.swept)


@pytest.mark.behaviour
def test_five_guesses_of_five_classes_are_no_metric():
    found = adamw_probe(blobs(50, 1, 5), blobs(50, 3, 5), None, AdamWProbe(epochs=1))
    assert math.isnan(found.metrics()["lp_acc5"])
    assert "lp_acc5" not in found.intervals()


@pytest.mark.behaviour
def test_what_cannot_be_is_refused():
    with pytest.raises(DataError, match="20 shots"):
        adamw_probe(blobs(70, 1), blobs(70, 3), None, AdamWProbe(shots=20))
    with pytest.raises(ConfigError, match="above zero"):
        AdamWProbe(epochs=0)
    with pytest.raises(ConfigError, match="share"):
        AdamWProbe(held_out=1.0)
