"""Pictures of several classes: precision beside scikit-learn and plain twins, and what is read."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from bifocal.data.sample import Sample
from bifocal.errors import ConfigError, DataError
from bifocal.evaluate.average_precision import Ranking, average_precisions, mean_precision_of
from bifocal.evaluate.classifier import Prompting
from bifocal.evaluate.metrics import average_precision_at_11
from bifocal.evaluate.multi_label import RANKING, MultiLabelResult, classify_multi_label
from bifocal.evaluate.protocol import CLIP_BENCHMARK, PLAIN
from bifocal.evaluate.results import Origin, multi_label_record
from bifocal.evaluate.zero_shot import classify
from bifocal.identity import identify_data, identify_model

NAMES = ("ant", "bee", "cow", "dog")
FORMS = ("area", "eleven points")


class Several:
    """Grey pictures of up to three classes each; of none, every fifth."""

    class_names = NAMES
    shard_sizes = (20,)
    identity = "several"

    def __len__(self) -> int:
        return 20

    def read(self, index: int) -> Sample:
        if index == 7:
            raise DataError("damaged")
        image = np.random.default_rng(index).integers(0, 256, (16, 16, 3), np.uint8)
        return Sample(str(index), image, (), None)

    def labels(self, index: int) -> tuple[int, ...]:
        return {0: (), 1: (0,), 2: (1, 2), 3: (0, 1, 2), 4: (2,)}[index % 5]

    def captions(self, index: int) -> tuple[str, ...]:
        return ()

    def place(self, index: int) -> str:
        return "here"


def drawn(images: int = 60, classes: int = 5, levels: int = 12) -> MultiLabelResult:
    """Return scores of which many tie, and classes that go with them; the last has no picture."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randint(0, levels, (images, classes), generator=generator).float()
    noise = levels * torch.rand(images, classes, generator=generator)
    relevant = logits + noise > 1.3 * levels
    relevant[:, -1] = False
    relevant[:4] = False
    names = tuple(f"class {n}" for n in range(classes))
    return MultiLabelResult(names, logits, relevant, torch.arange(images), 0)


@pytest.mark.parity
@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=2, max_size=20), data=st.data()
)
def test_both_forms_are_those_of_their_definitions(scores, data):
    flags = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    logits, relevant = torch.tensor(scores)[:, None], torch.tensor(flags)[:, None]
    area, eleven = (average_precisions(logits, relevant, form).item() for form in FORMS)
    if not any(flags):
        assert math.isnan(area)
        assert math.isnan(eleven)
        return
    assert area == pytest.approx(average_precision_score(flags, scores))
    assert eleven == pytest.approx(average_precision_at_11(logits[:, 0], relevant[:, 0]))


@pytest.mark.property
@pytest.mark.parametrize("form", FORMS)
def test_a_weight_is_a_picture_that_occurs_so_often(form):
    result = drawn()
    weights = torch.randint(0, 4, (60,), generator=torch.Generator().manual_seed(2))
    rows = torch.arange(60).repeat_interleave(weights)
    for scores, right in zip(result.logits.unbind(1), result.relevant.unbind(1), strict=True):
        weighted = Ranking(scores, right).precision(weights.double()[None], form)
        repeated = average_precisions(scores[rows, None], right[rows, None], form)
        torch.testing.assert_close(weighted, repeated, equal_nan=True)


@pytest.mark.parity
def test_metrics_are_scikit_learns():
    result = drawn()
    found = result.metrics()
    scores, right = result.logits.numpy(), result.relevant.numpy()
    own = [average_precision_score(right[:, n], scores[:, n]) for n in range(4)]
    assert found["mean_average_precision"] == pytest.approx(np.mean(own))
    eleven = [average_precision_at_11(result.logits[:, n], result.relevant[:, n]) for n in range(4)]
    assert found["mean_average_precision_11_points"] == pytest.approx(np.mean(eleven))
    some = right.any(axis=1)
    expected = label_ranking_average_precision_score(right[some], scores[some])
    assert found[RANKING] == pytest.approx(expected)
    assert found["chance"] == pytest.approx(right[:, :4].mean())
    assert result.ranking().shape == (some.sum(),)
    # CLIP_benchmark counts a class without pictures as one that is never found.
    counted = MultiLabelResult(
        result.class_names, result.logits, result.relevant, result.indices, 0, CLIP_BENCHMARK
    )
    assert counted.metrics()["mean_average_precision"] == pytest.approx(np.sum(own) / 5)
    assert counted.metrics()["chance"] == pytest.approx(right.mean())


@pytest.mark.golden
def test_a_ranking_by_hand():
    # Scores 4, 3, 2, 1; the first, third and fourth are of the class: 1, 2/3 and 3/4.
    scores, right = (
        torch.tensor([4.0, 3, 2, 1])[:, None],
        torch.tensor([1, 0, 1, 1]).bool()[:, None],
    )
    assert average_precisions(scores, right, "area").item() == pytest.approx(
        (1 + 2 / 3 + 3 / 4) / 3
    )
    # Recall 0 … 0.3 at precision 1; from 0.4 on the best is 3/4.
    eleven = average_precisions(scores, right, "eleven points").item()
    assert eleven == pytest.approx((4 * 1 + 7 * 3 / 4) / 11)


@pytest.mark.property
def test_intervals_hold_their_figures_and_shrink_with_the_pictures():
    widths = []
    for images in (60, 960):
        result = drawn(images)
        found, metrics = result.intervals(), result.metrics()
        for name in ("mean_average_precision", "mean_average_precision_11_points", RANKING):
            assert found[name].value == pytest.approx(metrics[name])
            assert found[name].low < metrics[name] < found[name].high
        widths.append(found["mean_average_precision"].high - found["mean_average_precision"].low)
    assert 2.5 < widths[0] / widths[1] < 6, "a quarter, of sixteen times the pictures"


@pytest.mark.property
def test_a_resample_may_lack_a_class():
    result = drawn()
    weights = torch.ones(2, 60, dtype=torch.float64)
    weights[1, result.relevant[:, 0]] = 0
    for absent, classes in ((math.nan, 3), (0.0, 4)):
        statistic = mean_precision_of(result.logits[:, :4], result.relevant[:, :4], "area", absent)
        whole, lacking = statistic(weights).tolist()
        assert whole == pytest.approx(result.metrics()["mean_average_precision"])
        kept = weights[1] > 0
        others = average_precisions(result.logits[kept, 1:4], result.relevant[kept, 1:4], "area")
        assert lacking == pytest.approx(others.sum().item() / classes)


@pytest.fixture
def clip(tiny_vit, random_pretrained):
    return random_pretrained(tiny_vit)


@pytest.mark.behaviour
def test_a_source_is_scored_with_every_class_of_its_pictures(clip):
    source = Several()
    with warnings.catch_warnings():
        result = classify_multi_label(clip, source, source.labels, Prompting(("a {}",)))
    assert result.skipped == 1
    assert 7 not in result.indices.tolist()
    assert result.protocol is PLAIN
    for row, index in enumerate(result.indices.tolist()):
        assert tuple(result.relevant[row].nonzero()[:, 0].tolist()) == source.labels(index)
    assert result.relevant.sum(dim=0).tolist()[3] == 0
    data = {"test": identify_data(source, "several")}
    origin = Origin.of(clip, identify_model(clip, "tiny"), data)
    record = multi_label_record(result, origin, ("a {}",), "VOC 2007")
    assert record.metrics["paper_metric"] == record.metrics["mean_average_precision_11_points"]
    assert record.intervals["paper_metric"].low < record.metrics["paper_metric"]
    assert record.outcomes[RANKING].mean().item() == record.metrics[RANKING]
    units = record.units(RANKING)
    assert units is not None
    assert all(index % 5 for index in units.tolist()), "pictures of no class have no ranking"
    with pytest.raises(ConfigError, match="by the one class of a picture"):
        multi_label_record(result, origin, ("a {}",), "CIFAR-10")


@pytest.mark.behaviour
def test_one_class_and_several_are_not_taken_for_each_other(clip, monkeypatch):
    with pytest.raises(DataError, match="may be of several classes"):
        classify(clip, Several(), Prompting())
    with pytest.raises(DataError, match="no picture is of any class"):
        classify_multi_label(clip, Several(), lambda index: (), Prompting())
    # One class has an order of its pictures too, though no choice.
    monkeypatch.setattr(Several, "class_names", ("ant",))
    found = classify_multi_label(clip, Several(), lambda index: (0,) * (index % 2), Prompting())
    assert 0 < found.metrics()["mean_average_precision"] < 1


@pytest.mark.behaviour
def test_a_perfect_order_has_no_interval():
    relevant = torch.eye(6).bool()[:, :3]
    result = MultiLabelResult(("a", "b", "c"), relevant.float(), relevant, torch.arange(6), 0)
    assert result.metrics()["mean_average_precision"] == 1
    found = result.intervals()
    assert "mean_average_precision" not in found, "nothing is known of the next picture"
    assert found[RANKING].low < 1
