"""The rules of the paper and of CLIP_benchmark, against a plain reading of each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from bifocal.data.sample import Sample
from bifocal.errors import ConfigError
from bifocal.evaluate.classifier import Prompting
from bifocal.evaluate.metrics import average_precision_at_11, mean_over_classes, roc_auc
from bifocal.evaluate.paper_score import paper_score
from bifocal.evaluate.protocol import (
    CLIP_BENCHMARK,
    PAPER,
    PAPER_METRICS,
    PLAIN,
    paper_metric,
    protocol,
)
from bifocal.evaluate.record import read_record, write_record
from bifocal.evaluate.results import Origin, retrieval_record, zero_shot_record
from bifocal.evaluate.retrieval import retrieve
from bifocal.evaluate.zero_shot import ZeroShotResult, classify, zero_shot
from bifocal.identity import identify_data, identify_model
from bifocal.inputs.prompts import ClassNames

NAMES = ("ant", "bee", "cow", "dog", "elk", "fox")
CAPTIONS = ("a b", "a c", "d", "e f", "g h i", "g", "j k", "d")


class Pictures:
    """Grey pictures of six classes, with captions."""

    shard_sizes = (24,)
    identity = "pictures"

    def __init__(self, class_names=NAMES) -> None:
        self.class_names = tuple(class_names)

    def __len__(self) -> int:
        return 24

    def read(self, index: int) -> Sample:
        image = np.random.default_rng(index).integers(0, 256, (16, 16, 3), np.uint8)
        return Sample(f"key{index % 20}", image, self.captions(index), index % len(NAMES) % 5)

    def captions(self, index: int) -> tuple[str, ...]:
        return tuple(CAPTIONS[(index + n * n) % len(CAPTIONS)] for n in range(1 + index % 3))

    def place(self, index: int) -> str:
        return "here"


@pytest.fixture
def clip(tiny_vit, random_pretrained):
    return random_pretrained(tiny_vit)


def features(clip):
    return clip.encode_image([Pictures().read(n).image for n in range(24)])


@pytest.mark.parity
def test_clip_benchmarks_classification_is_followed(clip):
    templates = ["a photo of a {c}.", "{c}"]
    found = classify(clip, Pictures(), Prompting(templates, protocol=CLIP_BENCHMARK))
    # Its steps: a class after the other, sentences as they are, logits of 100 · cosine.
    weights = []
    for name in NAMES:
        mean = clip.encode_text([t.format(c=name) for t in templates]).mean(dim=0)
        weights.append(mean / mean.norm())
    logits = 100.0 * features(clip) @ torch.stack(weights, dim=1)
    torch.testing.assert_close(found.logits, logits, atol=1e-4, rtol=0)
    labels = torch.tensor([n % 6 % 5 for n in range(24)])
    best = logits.topk(5).indices
    metrics = found.metrics()
    assert list(metrics)[:3] == ["acc1", "acc5", "mean_per_class_recall"]
    assert metrics["acc1"] == pytest.approx((best[:, 0] == labels).float().mean().item())
    assert metrics["acc5"] == pytest.approx((best == labels[:, None]).any(1).float().mean().item())
    balanced = balanced_accuracy_score(labels, logits.argmax(dim=1))
    assert metrics["mean_per_class_recall"] == pytest.approx(balanced)
    assert set(found.intervals()) == {"acc1", "acc5", "mean_per_class_recall"}
    few = found.among([0, 1, 2, 3])
    kept = few.labels < 4
    assert bool(kept.any())
    assert math.isnan(few.metrics()["acc5"])
    assert "acc5" not in few.intervals()


@pytest.mark.parity
def test_clip_benchmarks_retrieval_is_followed(clip):
    found = retrieve(clip, Pictures(), protocol=CLIP_BENCHMARK)
    texts = clip.encode_text(found.captions)
    scores = texts @ features(clip).T
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(texts)), found.owners] = True
    metrics = found.metrics()
    for k in (1, 5, 10):
        # Pessimistic where scores tie, as equal captions' do.
        for name, matrix, own in (
            (f"image_retrieval_recall@{k}", scores, positive),
            (f"text_retrieval_recall@{k}", scores.T, positive.T),
        ):
            best = matrix.masked_fill(~own, -math.inf).amax(dim=1, keepdim=True)
            ahead = ((matrix >= best - 1e-7) & ~own).sum(dim=1)
            assert metrics[name] == pytest.approx((ahead < k).float().mean().item())
    assert not any("to_text" in name or "to_image" in name for name in metrics)
    assert set(found.intervals()) == {name for name in metrics if "recall" in name}


@pytest.mark.behaviour
def test_the_paper_says_photo_before_captions_and_leaves_articles(clip):
    found = retrieve(clip, Pictures(), protocol=PAPER)
    expected = clip.encode_text([f"a photo of {text}" for text in found.captions])
    assert torch.equal(found.text_features, expected)
    result = classify(clip, Pictures(), Prompting(["a {}"], protocol=PAPER))
    assert result.prompts[0] == ("a ant",)
    assert zero_shot(clip, Pictures(), ["a {}"]).prompts[0] == ("an ant",)
    scale = clip.model.logit_scale.exp()
    ratio = classify(clip, Pictures(), Prompting(["a {}"], protocol=CLIP_BENCHMARK)).logits
    torch.testing.assert_close(result.logits * (100 / scale.item()), ratio, rtol=1e-4, atol=1e-4)


@pytest.mark.behaviour
def test_equal_captions_and_pictures_of_equal_keys_can_count(clip):
    alone = retrieve(clip, Pictures())
    by = {same: retrieve(clip, Pictures(), same=same) for same in ("caption", "picture", "both")}
    assert torch.equal(retrieve(clip, Pictures(), same="none").image_to_text, alone.image_to_text)
    for found in by.values():
        assert (found.image_to_text <= alone.image_to_text).all()
        assert (found.text_to_image <= alone.text_to_image).all()
        assert (
            found.metrics()["text_to_image_chance@10"] > alone.metrics()["text_to_image_chance@10"]
        )
    # "d" is written under several pictures: held to its own, it ties with the other "d".
    text = alone.captions.index("d")
    owners = {int(o) for o, t in zip(alone.owners, alone.captions, strict=True) if t == "d"}
    assert len(owners) > 1
    scores = (alone.image_features @ alone.text_features[text]).tolist()
    best = max(scores[o] for o in owners)
    ahead = sum(s >= best for n, s in enumerate(scores) if n not in owners)
    assert by["caption"].text_to_image[text] == ahead
    # Pictures 0 and 20 share a key, so that either is right for the other's captions.
    assert by["picture"].unit_of("image_to_text_recall@1").tolist()[20] == 0
    assert len(by["picture"].unit_of("text_to_image_recall@1")) == len(alone.captions)


@pytest.mark.behaviour
def test_names_lead_to_classes_by_name_or_by_order(clip):
    backwards = ClassNames.of(NAMES[::-1])
    plain = zero_shot(clip, Pictures(), ["a {}"])
    found = classify(clip, Pictures(), Prompting(["a {}"], backwards))
    assert found.class_names == NAMES
    assert torch.equal(found.logits, plain.logits)
    several = ClassNames(NAMES, (("ant", "emmet"), *((name,) for name in NAMES[1:])))
    result = classify(clip, Pictures(), Prompting(["a {}"], several))
    mean = clip.encode_text(["an ant", "an emmet"]).mean(dim=0)
    expected = clip.model.logit_scale.exp().detach() * features(clip) @ (mean / mean.norm())
    torch.testing.assert_close(result.logits[:, 0], expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ConfigError, match="5 classes for data of 6"):
        classify(clip, Pictures(), Prompting(["a {}"], ClassNames.of(NAMES[1:])))


@pytest.mark.golden
def test_the_papers_metric_is_known_by_any_usual_name():
    # Table 9 of the paper.
    assert len(PAPER_METRICS) == 27
    for name in ("FGVC Aircraft", "oxford-iiit-pets", "pets", "caltech101", "flowers102"):
        assert paper_metric(name) == "mean_per_class_recall"
    assert paper_metric("voc2007") == "map_at_11"
    assert paper_metric("hateful_memes") == "roc_auc"
    assert paper_metric("Kinetics-700") == "mean_of_top1_and_top5"
    assert paper_metric("cifar10") == paper_metric("ImageNet-1k") == "top1"
    with pytest.raises(ConfigError, match="'cifar11' is no data set of the paper's"):
        paper_metric("cifar11")
    with pytest.raises(ConfigError, match="did you mean 'paper'"):
        protocol("papers")
    assert protocol("plain") is PLAIN


@pytest.mark.golden
def test_results_are_scored_as_the_paper_does():
    logits = torch.tensor([[3.0, 1, 0, 0, 0, 0], [2, 3, 4, 5, 6, 7], [1, 1, 0, 0, 0, 0]])
    result = ZeroShotResult(NAMES, logits, torch.tensor([0, 0, 1]), torch.arange(3), 0)
    # The last ties with another class: not first, but among five.
    assert paper_score(result, "top1") == pytest.approx(1 / 3)
    assert paper_score(result, "mean_per_class_recall") == pytest.approx((1 / 2 + 0) / 2)
    assert paper_score(result, "mean_of_top1_and_top5") == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert result.metrics()["mean_per_class_recall"] == paper_score(result, "mean_per_class_recall")
    for metric in ("map_at_11", "roc_auc"):
        with pytest.raises(ConfigError):
            paper_score(result, metric)
    two = ZeroShotResult(NAMES[:2], logits[:, :2], torch.tensor([0, 1, 1]), torch.arange(3), 0)
    assert paper_score(two, "roc_auc") == 1
    assert two.confusion().tolist() == [[1, 0], [1, 1]]


@pytest.mark.parity
@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=2, max_size=20), data=st.data()
)
def test_rank_metrics_are_those_of_their_definitions(scores, data):
    flags = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    values, good = torch.tensor(scores), torch.tensor(flags)
    if all(flags) or not any(flags):
        assert math.isnan(roc_auc(values, good))
    else:
        assert roc_auc(values, good) == pytest.approx(roc_auc_score(flags, scores))
    if not any(flags):
        assert math.isnan(average_precision_at_11(values, good))
        return
    # Irrelevant before relevant where scores are equal.
    order = sorted(range(len(scores)), key=lambda n: (-scores[n], flags[n]))
    points, hits = [], 0
    for place, n in enumerate(order, 1):
        hits += flags[n]
        points.append((hits / sum(flags), hits / place))
    levels = [max(p for r, p in points if r >= t / 10 - 1e-12) for t in range(11)]
    assert average_precision_at_11(values, good) == pytest.approx(sum(levels) / 11)
    labels = torch.tensor([int(flag) for flag in flags])
    right = values > 0.7
    shares = [right[labels == one].float().mean().item() for one in labels.unique()]
    assert mean_over_classes(right, labels) == pytest.approx(sum(shares) / len(shares))


@pytest.mark.behaviour
def test_scores_that_are_no_number_order_nothing():
    nothing = torch.full((4,), math.nan)
    good = torch.tensor([True, False, True, False])
    assert roc_auc(nothing, good) == 0
    first = average_precision_at_11(torch.tensor([1.0, 0.0, 0.5, -1.0]), good)
    assert average_precision_at_11(nothing, good) < first
    # An infinite score does not even tie with one that is no number.
    assert roc_auc(torch.tensor([math.inf, math.nan, 1.0, 0.0]), good) == pytest.approx(2 / 4)


@pytest.mark.behaviour
def test_records_hold_the_rules_and_every_outcome(clip, tmp_path):
    source = Pictures()
    data = {"test": identify_data(source, "pictures")}
    origin = Origin.of(clip, identify_model(clip, "tiny"), data)
    result = classify(clip, source, Prompting(["a {}"], protocol=PAPER))
    record = zero_shot_record(result, origin, ["a {}"], "pets")
    write_record(record, tmp_path / "z.json")
    found = read_record(tmp_path / "z.json")
    assert found.metrics == record.metrics
    assert found.metrics["paper_metric"] == found.metrics["mean_per_class_recall"]
    assert found.settings["rules"]["caption_prefix"] == "a photo of "
    for name in ("top1", "top5"):
        assert found.outcomes[name].double().mean().item() == found.metrics[name]
    assert torch.equal(found.outcomes["mean_per_class_recall.class"], result.labels)
    assert found.units("top1").tolist() == list(range(24))
    ranked = retrieve(clip, source)
    write_record(retrieval_record(ranked, origin), tmp_path / "r.json")
    found = read_record(tmp_path / "r.json")
    for name, outcome in found.outcomes.items():
        if not name.endswith(".unit"):
            assert outcome.double().mean().item() == pytest.approx(found.metrics[name])
            assert len(found.units(name)) == len(outcome)
    ranks = found.outcomes["text_to_image_mean_rank"] - 1
    assert torch.equal(ranks.long(), ranked.text_to_image)
    told = result.details()
    assert torch.tensor(told["confusion"]).sum() == 24
    assert told["recall"][5] is None
    assert sum(one["images"] for one in told["reliability"]["equal_width"]) == 24
