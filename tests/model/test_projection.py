"""Projections with a hidden layer: what they compute, where they stand, and who refuses them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bifocal import pretrained
from bifocal.compat.towers import clip_model
from bifocal.data.loader import read_image
from bifocal.data.scenes import SceneSource
from bifocal.embed import Embedded, Job, embed
from bifocal.errors import BifocalError, ConfigError
from bifocal.evaluate.classifier_cache import classifier_key
from bifocal.identity import fingerprint, identify_model
from bifocal.interop.convert import Target, write
from bifocal.model.build import build_model
from bifocal.model.clip import CLIP
from bifocal.model.config import BagOfWordsConfig, CLIPConfig
from bifocal.model.modified_resnet import ModifiedResNet
from bifocal.model.projection import GAIN, ProjectionHead
from bifocal.pretrained import Pretrained
from bifocal.settings import build
from bifocal.train.cost import Setup, flops, parameters
from bifocal.train.footprint import footprint
from bifocal.train.rehearsal import Towers

HEADS = {"image_head.weight", "text_head.weight"}
Make = Callable[..., Pretrained]


def mlp(config: CLIPConfig) -> CLIPConfig:
    return config.model_copy(update={"projection": "mlp"})


def inputs(config: CLIPConfig) -> tuple[torch.Tensor, torch.Tensor]:
    size = config.vision.image_size
    tokens = torch.randint(1, 598, (3, 9))
    tokens[:, -1] = 599
    return torch.randn(3, 3, size, size), tokens


@pytest.mark.property
def test_features_are_those_computed_by_hand(tiny, random_clip):
    model = random_clip(mlp(tiny))
    images, tokens = inputs(tiny)
    with torch.no_grad():
        if isinstance(model.visual, ModifiedResNet):
            image = model.visual(images)
        else:
            image = model.visual.penultimate(images) @ model.visual.proj
        text = model.read_text(tokens)
        expected = []
        for x, weight in ((image, model.image_head.weight), (text, model.text_head.weight)):
            hidden = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))  # GELU, as it is defined
            features = hidden @ weight.T
            expected.append(features / features.norm(dim=1, keepdim=True))
        found = model.features(images, tokens)
        logits, _ = model(images, tokens)
    torch.testing.assert_close(found.image, expected[0])
    torch.testing.assert_close(found.text, expected[1])
    scale = model.logit_scale.detach().exp()
    torch.testing.assert_close(logits, scale * expected[0] @ expected[1].T)


@pytest.mark.property
def test_the_heads_are_all_that_is_added(tiny):
    linear, hidden = CLIP(tiny, seed=3).state_dict(), CLIP(mlp(tiny), seed=3).state_dict()
    assert hidden.keys() - linear.keys() == HEADS
    assert all(torch.equal(tensor, hidden[name]) for name, tensor in linear.items())
    assert not torch.equal(hidden["image_head.weight"], hidden["text_head.weight"])
    words = BagOfWordsConfig(context_length=12, vocab_size=600, width=16)
    bag = build_model(mlp(tiny).model_copy(update={"text": words}))
    assert bag.encode_text(inputs(tiny)[1]).shape == (3, tiny.embed_dim)
    assert bag.state_dict().keys() >= HEADS


@pytest.mark.golden
def test_a_head_starts_by_keeping_the_variance():
    # Origin: the integral of z² Φ(z)² over the normal density is 1/3 + 1/(2π√3).
    head = ProjectionHead(512)
    head.initialize(torch.Generator().manual_seed(0))
    assert head.weight.std().item() == pytest.approx(GAIN * 512**-0.5, rel=0.01)
    with torch.no_grad():
        assert head(torch.randn(4096, 512)).std().item() == pytest.approx(1.0, rel=0.02)


@pytest.mark.property
def test_an_artifact_comes_back_whole(tiny, random_pretrained, tmp_path):
    model = random_pretrained(mlp(tiny))
    model.save(tmp_path / "model")
    again = pretrained.load(tmp_path / "model")
    assert again.model.config == model.model.config
    texts = ["a cat", "two dogs"]
    assert torch.equal(again.encode_text(texts), model.encode_text(texts))
    state = again.model.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in model.model.state_dict().items())


@pytest.mark.property
def test_a_classifier_of_many_prompts_passes_the_head(tiny_vit, random_pretrained, monkeypatch):
    model = random_pretrained(mlp(tiny_vit))
    rows = [[f"{'x' * n} a {name}" for n in range(1, 5)] for name in ("ab", "cd", "ef")]
    expected = model.class_weights(rows)
    monkeypatch.setattr("bifocal.pretrained.FEW", 2)
    monkeypatch.setattr("bifocal.model.prefixes.TextTransformer.read_text", None)
    found = model.class_weights(rows)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.property
def test_stored_features_pass_the_head_and_those_before_it_do_not(
    tiny_vit, random_pretrained, tmp_path
):
    model, source = random_pretrained(mlp(tiny_vit)), SceneSource(6, 0, 16)
    pictures = torch.stack([model.preprocess.fit(read_image(source.read(n))) for n in range(6)])
    with torch.inference_mode():
        normal = model.preprocess.normalize(pictures)
        expected = {
            "projected": model.model.encode_image(normal),
            "penultimate": model.model.visual.penultimate(normal),
        }
    for kind, features in expected.items():
        embed(model, source, tmp_path / kind, Job(what="images", kind=kind))
        found = torch.tensor(Embedded.open(tmp_path / kind).image_features[:6])
        torch.testing.assert_close(found.float(), features, atol=1e-3, rtol=1e-3)


@pytest.mark.behaviour
def test_a_head_belongs_to_its_tower(tiny_vit, random_pretrained):
    model = CLIP(mlp(tiny_vit))
    heads = {"image": model.image_head, "text": model.text_head}
    for tower, other in (("image", "text"), ("text", "image")):
        own = {id(p) for p in model.tower_parameters(tower)}
        assert id(heads[tower].weight) in own
        assert id(heads[other].weight) not in own
    model.lock("image")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("visual.", "image_head.")) for name in trained)
    assert "text_head.weight" in trained
    # A classifier does not depend on the head of the pictures.
    one, prompts = random_pretrained(mlp(tiny_vit)), [["a cat"]]
    keys = [classifier_key(one, prompts)]
    for head in (one.model.image_head, one.model.text_head):
        with torch.no_grad():
            head.weight.add_(1)
        keys.append(classifier_key(one, prompts))
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.property
def test_a_plan_counts_the_heads(tiny):
    linear, hidden = Towers(tiny, 12), Towers(mlp(tiny), 12)
    matrix = tiny.embed_dim**2
    before, after = parameters(linear), parameters(hidden)
    assert (after.image - before.image, after.text - before.text) == (matrix, matrix)
    assert after.total == sum(p.numel() for p in CLIP(mlp(tiny)).parameters())
    setups = [Setup(towers, batch_size=8) for towers in (linear, hidden)]
    costs = [flops(setup) for setup in setups]
    assert costs[1].image - costs[0].image == costs[1].text - costs[0].text == 2 * matrix
    held = [footprint(setup) for setup in setups]
    assert held[1].gradients - held[0].gradients == 2 * 4 * matrix
    assert held[1].statistics - held[0].statistics == 2 * 8 * matrix
    assert held[1].activations > held[0].activations


@pytest.mark.property
def test_linear_models_keep_the_identity_under_which_features_are_stored(
    tiny_vit, random_pretrained
):
    linear, hidden = random_pretrained(tiny_vit), random_pretrained(mlp(tiny_vit))
    table = tiny_vit.model_dump(mode="json")
    del table["projection"]
    assert identify_model(linear, "a").config == fingerprint(table)
    assert identify_model(hidden, "a").config != fingerprint(table)
    assert build(CLIPConfig, table, "test") == tiny_vit


@pytest.mark.behaviour
@pytest.mark.parametrize("target", [Target.OPENAI, Target.OPEN_CLIP, Target.HUGGINGFACE])
def test_other_forms_have_no_such_layer(target, tiny_vit, random_pretrained: Make, tmp_path: Path):
    with pytest.raises(BifocalError, match=r"projections of the kind mlp.*projection=linear"):
        write(random_pretrained(mlp(tiny_vit)), tmp_path / "out", target, "a test")
    assert not any(tmp_path.iterdir())
    write(random_pretrained(mlp(tiny_vit)), tmp_path / "own", Target.BIFOCAL, "a test")


@pytest.mark.behaviour
def test_peers_faces_and_predictive_objectives_refuse_it(tiny_vit, random_pretrained):
    with pytest.raises(ConfigError, match="projections of the kind mlp"):
        clip_model(random_pretrained(mlp(tiny_vit)).clip)
    table = {**tiny_vit.model_dump(), "projection": "mlp", "objective": "caption"}
    with pytest.raises(ConfigError, match=r"predicts captions: leave model\.projection out"):
        build(CLIPConfig, table, "test")
    with pytest.raises(ConfigError, match="'linear' or 'mlp'"):
        build(CLIPConfig, {**tiny_vit.model_dump(), "projection": "deep"}, "test")
