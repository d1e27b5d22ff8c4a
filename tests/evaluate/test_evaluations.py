"""Zero-shot and retrieval on sources whose right answers are known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from bifocal.data.sample import Sample
from bifocal.data.scenes import BindingPair
from bifocal.errors import DataError
from bifocal.evaluate.binding import binding_accuracy
from bifocal.evaluate.features import Pictures as Reading
from bifocal.evaluate.features import encode_pictures
from bifocal.evaluate.retrieval import retrieval, validation_loss
from bifocal.evaluate.zero_shot import zero_shot
from bifocal.loss.sigmoid import SigmoidLoss
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.types import Features


@dataclass
class Pictures:
    """Grey pictures: number n is of level n."""

    texts: list[tuple[str, ...]]
    labels: list[int | None]
    class_names: tuple[str, ...] = ()
    bad: set[int] = field(default_factory=set)
    identity: str = "pictures"

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        return (len(self),)

    def __len__(self) -> int:
        return len(self.texts)

    def read(self, index: int) -> Sample:
        if index in self.bad:
            raise DataError("damaged")
        image = np.full((20, 24, 3), index, dtype=np.uint8)
        return Sample(str(index), image, self.texts[index], self.labels[index])

    def captions(self, index: int) -> tuple[str, ...]:
        return self.texts[index]

    def place(self, index: int) -> str:
        return "here"


NAMES = tuple(f"thing {letter}" for letter in "abcdefg")


@pytest.fixture
def knowing(tiny_vit, random_pretrained, monkeypatch):
    """A model that puts level n, and every text that ends in the nth letter, on axis n."""
    clip = random_pretrained(tiny_vit)

    def image_features(images: Tensor) -> Tensor:
        mean = torch.tensor(clip.preprocess.mean)[0] * 255
        std = torch.tensor(clip.preprocess.std)[0] * 255
        level = (images[:, 0, 0, 0] * std + mean).round().long()
        return torch.eye(16)[level]

    def text_features(tokens: Tensor) -> Tensor:
        words = [clip.tokenizer.decode(row.tolist()).split()[-1] for row in tokens]
        return torch.eye(16)[[ord(word[0]) - ord("a") for word in words]]

    monkeypatch.setattr(clip.model, "encode_image", image_features)
    monkeypatch.setattr(clip.model, "encode_text", text_features)
    return clip


@pytest.mark.behaviour
def test_a_model_that_knows_is_right_and_one_that_does_not_is_counted(knowing):
    # Pictures 0 to 4 are of their own class, 5 and 6 are labelled as each other.
    source = Pictures([()] * 7, [0, 1, 2, 3, 4, 6, 5], NAMES)
    result = zero_shot(knowing, source, ["a {}", "my {}"])
    found = result.metrics()
    assert found["top1"] == pytest.approx(5 / 7)
    assert found["mean_per_class_recall"] == pytest.approx(5 / 7)
    assert found["chance"] == pytest.approx(1 / 7)
    assert found["images"] == 7
    assert result.indices.tolist() == list(range(7))
    assert result.skipped == 0
    assert result.class_names == NAMES


@pytest.mark.behaviour
def test_choosing_among_fewer_names_changes_the_task(knowing):
    # Picture 2 is labelled 0: wrong among all names, right once its own name is no choice.
    source = Pictures([()] * 3, [0, 1, 0], NAMES)
    result = zero_shot(knowing, source, ["{}"])
    assert result.metrics()["top1"] == pytest.approx(2 / 3)
    fewer = result.among([1, 0])
    assert fewer.class_names == (NAMES[1], NAMES[0])
    assert fewer.labels.tolist() == [1, 0, 1]
    assert fewer.logits.shape == (3, 2)
    assert fewer.metrics()["chance"] == 0.5
    assert torch.equal(fewer.logits[:, 0], result.logits[:, 1])


@pytest.mark.behaviour
def test_what_cannot_be_read_is_left_out_and_counted(knowing):
    source = Pictures([()] * 7, [0, 1, 2, 3, 4, 5, 6], NAMES, bad={2, 5})
    result = zero_shot(knowing, source, ["{}"])
    assert result.skipped == 2
    assert result.indices.tolist() == [0, 1, 3, 4, 6]
    assert result.metrics()["top1"] == 1
    seen = encode_pictures(knowing, source, Reading(limit=4))
    assert seen.indices.tolist() == [0, 1, 3]
    assert seen.skipped == 1
    with pytest.raises(DataError, match="no picture of 7 could be read"):
        zero_shot(knowing, Pictures([()] * 7, [0] * 7, NAMES, bad=set(range(7))))


@pytest.mark.behaviour
def test_zero_shot_needs_labels(knowing):
    with pytest.raises(DataError, match="no classes: zero-shot needs"):
        zero_shot(knowing, Pictures([("a",)], [None]))
    with pytest.raises(DataError, match="captions but no label"):
        zero_shot(knowing, Pictures([("a",), ("b",)], [0, None], NAMES))


@pytest.mark.behaviour
def test_retrieval_counts_any_caption_of_a_picture(knowing):
    # Picture 0 has one right and one wrong caption, 1 only right ones, 2 only a wrong one.
    source = Pictures([("one a", "one b"), ("b", "my b", "the b"), ("a",)], [None] * 3)
    result = retrieval(knowing, source)
    assert result.owners.tolist() == [0, 0, 1, 1, 1, 2]
    assert result.captions == ("one a", "one b", "b", "my b", "the b", "a")
    # Picture 0: its "one a" ties with picture 2's "a", which counts as ranked above.
    # Picture 1: its own captions tie with "one b". Picture 2: its caption ties with all.
    assert result.image_to_text.tolist() == [1, 1, 5]
    # "one a" finds picture 0 first; "one b" ranks its picture below 1 and level with 2.
    assert result.text_to_image.tolist() == [0, 2, 0, 0, 0, 2]
    found = result.metrics()
    assert found["text_to_image_recall@1"] == pytest.approx(4 / 6)
    assert found["image_to_text_recall@1"] == 0
    assert found["image_to_text_recall@5"] == pytest.approx(2 / 3)
    assert found["image_to_text_median_rank"] == 2
    assert found["text_to_image_chance@10"] == 1
    assert (found["images"], found["texts"]) == (3, 6)


@pytest.mark.property
def test_retrieval_leaves_out_the_same_pictures_everywhere(knowing):
    texts = [(letter, f"my {letter}") for letter in "abcdef"]
    source = Pictures(texts, [None] * 6, bad={1, 4})
    result = retrieval(knowing, source)
    assert result.indices.tolist() == [0, 2, 3, 5]
    assert result.owners.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert result.captions[2] == "c"
    assert (result.image_to_text == 0).all()
    assert (result.text_to_image == 0).all()
    assert result.skipped == 2
    with pytest.raises(DataError, match="no captions: retrieval needs them"):
        retrieval(knowing, Pictures([()] * 3, [0] * 3, NAMES))


@pytest.mark.property
@pytest.mark.parametrize("kind", [SoftmaxLoss, SigmoidLoss])
def test_the_validation_loss_is_the_mean_over_whole_batches(tiny_vit, random_pretrained, kind):
    clip = random_pretrained(tiny_vit.model_copy(update={"init_logit_bias": -3.0}))
    source = Pictures([("a", "b"), ("c",), ("d", "e"), ("f",), ("g",)], [None] * 5)
    result = retrieval(clip, source)
    scale, bias = clip.model.logit_scale.detach().exp(), clip.model.logit_bias
    firsts = result.text_features[[0, 2, 3, 5, 6]]

    def loss(part: slice) -> float:
        made = Features(result.image_features[part], firsts[part], scale, bias)
        return kind().value(made).item()

    by_two = (loss(slice(0, 2)) + loss(slice(2, 4))) / 2
    model = clip.model
    assert validation_loss(result, model, kind(), 2) == pytest.approx(by_two, rel=1e-5)
    whole = validation_loss(result, model, kind(), 99)
    assert whole == pytest.approx(loss(slice(0, 5)), rel=1e-5)


@pytest.mark.golden
def test_word_order_is_scored_by_kind_and_a_tie_is_half(knowing):
    def pair(level: int, right: str, wrong: str, kind: str) -> BindingPair:
        image = np.full((20, 24, 3), level, dtype=np.uint8)
        return BindingPair(image=image, caption=right, wrong_caption=wrong, kind=kind)

    pairs = [
        pair(0, "a", "b", "attribute"),
        pair(1, "a", "b", "attribute"),
        pair(2, "a", "b", "attribute"),
        pair(0, "a", "b", "relation"),
    ]
    assert binding_accuracy(knowing, pairs) == {"attribute": 0.5, "relation": 1.0}
