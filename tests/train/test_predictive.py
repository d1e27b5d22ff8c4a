"""Predictive losses: their gradients, every split of a batch, learning by heart, and settings."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from train import predicting, splitting

from bifocal import pretrained
from bifocal.data.scenes import class_names
from bifocal.errors import CheckpointError, ConfigError
from bifocal.evaluate.likelihood import Likelihoods
from bifocal.inputs.tokenizer import pad
from bifocal.loss.predictive import BagOfWordsLoss, CaptionLoss, word_set
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.loss.tiled import TiledSoftmaxLoss
from bifocal.model.bag_of_words import BagOfWordsCLIP, word_logits
from bifocal.model.build import build_model
from bifocal.model.clip import CLIP
from bifocal.train import loop
from bifocal.train.cost import setup_of
from bifocal.train.objective import contrastive_loss, loss_of
from bifocal.train.prepare import prepare
from bifocal.train.step import train_step
from bifocal.world import ALONE

FORMS = predicting.FORMS


@pytest.mark.property
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_the_formula_pair_by_pair(form):
    run, batch = predicting.exact(form, "vit")
    expected = predicting.plain_gradients(run, batch)
    found = predicting.expected(form, "vit", predicting.PAIRS)
    predicting.compare(expected, found, form)
    text = {name for name in expected if not name.startswith("visual.")}
    assert {"token_embedding.weight", "text_projection"} <= text
    assert "logit_scale" not in found, "nothing is compared"
    for name in text - {"loss"}:
        assert expected[name].abs().max() > 1e-6, name


@pytest.mark.property
def test_float16_scales_the_loss_and_gradients_back(configure):
    norms = []
    for precision in ("float32", "float16"):
        config = configure("loss.form=caption", f"train.precision={precision}", out=precision)
        run = prepare(config, ALONE, print)
        assert (run.scaler is not None) == (precision == "float16")
        if run.scaler:
            run.scaler.scale = 2.0**8  # the first one is beyond float16 here
        norms.append(train_step(run, next(iter(run.loader())), loss_of(config)).grad_norm)
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


@pytest.mark.property
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_split_gives_the_same_gradients(form, processes):
    work = partial(predicting.check, form=form)
    counts = [work(ALONE)] if processes == 1 else predicting.in_threads(processes, work)
    assert counts == [len(predicting.CASES)] * processes


@pytest.mark.behaviour
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("unchecked_shapes")
def test_thirty_two_pairs_are_learned_by_heart_and_kept(form, tmp_path):
    vision = {"width": 64, "image_size": 16, "patch_size": 4, "layers": 1, "heads": 2}
    text = dict(predicting.settings(form).model.text, width=64, context_length=40)
    text |= {"layers": 1} if form == "caption" else {}
    config = predicting.settings(
        form,
        model={"embed_dim": 64, "vision": vision, "text": text},
        data={"train": "scenes:train:32", "batch_size": 32, "threads": 0},
        optim={"lr": 3e-3, "warmup_steps": 5, "weight_decay": 0.0},
        train={"steps": 10_000, "device": "cpu"},
    )
    run = prepare(config, ALONE, print)
    captions = list(class_names()[:32])
    tokens = pad([run.tokenizer.encode_caption(caption)[0] for caption in captions])
    batch = next(iter(run.loader()))
    batch = replace(batch, tokens=tokens, lengths=tokens.argmax(dim=1) + 1)
    loss_fn = loss_of(config)
    losses = [train_step(run, batch, loss_fn).loss for _ in range(200)]
    # Evenly shared among the words of a caption, a softmax can do no better than their entropy.
    words = word_set(batch.tokens, run.model.vocab_size)
    least = words.sum(1).float().log().mean().item() if form == "bag_of_words" else 0.0
    assert losses[0] > least + 1
    assert losses[-1] - least < (0.3 if form == "bag_of_words" else 0.1), losses[::10]
    run.for_evaluation().pretrained.save(tmp_path)
    loaded = pretrained.load(tmp_path)
    images = run.preprocess.normalize(batch.images)
    scores = Likelihoods(loaded, [[caption] for caption in captions])(images)
    kept = Likelihoods(run.pretrained, [[caption] for caption in captions])(images)
    assert torch.equal(scores, kept)
    if form == "caption":
        assert [captions[n] for n in scores.argmax(dim=1)] == captions
        return
    with torch.no_grad():
        asked = word_logits(loaded.model, loaded.model.read_image(images))
    found = [
        own[logits.topk(int(own.sum())).indices].float().mean().item()
        for logits, own in zip(asked, words, strict=True)
    ]
    assert sum(found) / len(found) > 0.95, "a picture's likeliest words are those of its caption"


@pytest.mark.behaviour
@pytest.mark.parametrize("form", FORMS)
def test_a_model_that_predicts_refuses_to_compare(form, tmp_path):
    run = prepare(predicting.settings(form), ALONE, print)
    run.for_evaluation().pretrained.save(tmp_path)
    loaded = pretrained.load(tmp_path)
    assert loaded.model.config == run.model.config
    assert loaded.model.config.objective == form
    state = run.model.state_dict()
    assert all(torch.equal(state[n], t) for n, t in loaded.model.state_dict().items())
    for ask in (
        lambda: loaded.encode_text(["a red circle"]),
        lambda: loaded.zero_shot(["red circle", "blue square"]),
        lambda: loaded.clip,
    ):
        with pytest.raises(ConfigError, match=r"predicts .*captions.*loss\.form=softmax"):
            ask()
    assert loaded.encode_image([torch.zeros(32, 32, 3, dtype=torch.uint8).numpy()]).shape == (1, 8)


@pytest.mark.property
@pytest.mark.parametrize("form", ["caption"])
def test_a_run_goes_on_and_ends_as_if_it_had_not_stopped(form, tmp_path):
    def go(out: Path, steps: int) -> dict[str, torch.Tensor]:
        config = predicting.settings(
            form, out=str(out), train={"steps": 4, "checkpoint_every": 2, "device": "cpu"}
        )
        run = prepare(config, ALONE, print)
        if steps == 4:
            loop.train(run, out, loss_of(config), [], lambda run, last: {})
            return run.model.state_dict()
        batches = iter(run.loader())
        for _ in range(steps):
            train_step(run, next(batches), loss_of(config))
        loop.checkpoint.save(run, out)
        return {}

    whole = go(tmp_path / "whole", 4)
    go(tmp_path / "parts", 2)
    parts = go(tmp_path / "parts", 4)
    assert all(torch.equal(parts[name], tensor) for name, tensor in whole.items())
    other = predicting.settings("softmax", out=str(tmp_path / "parts"))
    with pytest.raises(CheckpointError, match=r"loss\.form was"):
        prepare(other, ALONE, print)


@pytest.mark.behaviour
def test_the_objectives_share_names_and_shapes_of_weights():
    def shapes(form: str, kind: str) -> dict[str, torch.Size]:
        model = build_model(predicting.settings(form, kind=kind).model)
        return {name: tensor.shape for name, tensor in model.state_dict().items()}

    assert shapes("softmax", "transformer") == shapes("caption", "transformer")
    assert shapes("softmax", "bag_of_words") == shapes("bag_of_words", "bag_of_words")


@pytest.mark.behaviour
def test_settings_choose_loss_and_model():
    words, caption = map(predicting.settings, FORMS)
    assert loss_of(words) == BagOfWordsLoss()
    assert loss_of(caption) == CaptionLoss()
    assert (words.model.objective, caption.model.objective) == FORMS
    assert isinstance(build_model(words.model), BagOfWordsCLIP)
    assert isinstance(build_model(caption.model), CLIP)
    compared = predicting.settings("softmax", kind="bag_of_words")
    assert compared.model.objective == "contrastive"
    assert isinstance(build_model(compared.model), BagOfWordsCLIP)
    assert loss_of(compared) == contrastive_loss(compared)
    for config in (words, caption):
        with pytest.raises(ConfigError, match="compares nothing"):
            contrastive_loss(config)
        with pytest.raises(ConfigError, match="plan with softmax"):
            setup_of(config)
    preset = predicting.settings(
        "bag_of_words", model={"preset": "RN-nano", "text": {"kind": "bag_of_words"}} | NO_TOWER
    )
    assert preset.model.text.model_dump() == {
        "kind": "bag_of_words",
        "context_length": 32,
        "vocab_size": 4096,
        "width": 128,
    }


NO_TOWER = {"vision": {}, "embed_dim": 128}


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("form", "tables", "message"),
    [
        ("caption", {"kind": "bag_of_words"}, r"captions needs model\.text\.kind=transformer"),
        ("bag_of_words", {"kind": "transformer"}, r"model\.text\.kind=bag_of_words, got transf"),
        ("caption", {"loss": {"sharing": True}}, r"loss\.sharing is for contrastive"),
        ("caption", {"train": {"shard": True}}, r"train\.shard is for contrastive"),
        ("caption", {"data": {"val": "x"}, "evaluate": {"retrieval": True}}, r"retrieval=false"),
        ("caption", {"model": {"objective": "contrastive"}}, r"leave model\.objective out"),
        ("captions", {}, r"'loss\.form' is 'captions'"),
        ("softmax", {"model": {"text": {"kind": "bag"}}}, r"'text\.kind' is 'bag'"),
        (
            "softmax",
            {"model": {"text": {"kind": "bag_of_words", "layers": 2}}},
            r"unknown setting 'text\.layers'",
        ),
    ],
)
def test_settings_that_do_not_fit_say_what_to_do(form, tables, message):
    with pytest.raises(ConfigError, match=message):
        predicting.settings(form, **tables)


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("form", "precision"), [("bag_of_words", "float16"), ("caption", "bfloat16")]
)
def test_half_precision_learns_the_same(form, precision):
    losses = {}
    for used in ("float32", precision):
        half = {} if used == "float32" else {"text_weights": used}
        config = predicting.settings(
            form,
            optim={"lr": 1e-3, "warmup_steps": 2, **half},
            train={"steps": 9, "precision": used, "chunk_size": 6, "device": "cpu"},
        )
        run = prepare(config, ALONE, print)
        batch = next(iter(run.loader()))
        steps = [train_step(run, batch, loss_of(config)) for _ in range(5)]
        assert all(step.applied for step in steps)
        losses[used] = [step.loss for step in steps]
    assert losses["float32"][-1] < losses["float32"][0]
    assert losses[precision] != losses["float32"]
    assert losses[precision] == pytest.approx(losses["float32"], rel=0.03)


@pytest.mark.property
def test_comparing_bags_of_words_does_not_depend_on_chunks():
    run, batch = predicting.exact("bag_of_words", "vit")
    run = copy.copy(run)
    run.config = predicting.settings("softmax", kind="bag_of_words")
    run.model = build_model(run.config.model).double()
    whole = splitting.gradients(run, batch, predicting.PAIRS, SoftmaxLoss(), False)
    parts = splitting.gradients(run, batch, 5, TiledSoftmaxLoss(5), False)
    predicting.compare(whole, parts, "chunks of 5")
    assert whole["token_embedding.weight"].abs().max() > 1e-6


@pytest.mark.golden
def test_first_losses_are_those_of_knowing_nothing():
    # Origin: with embeddings of 0 every word is as likely as any other, log V nats a token.
    for form in FORMS:
        run = prepare(predicting.settings(form), ALONE, print)
        torch.nn.init.zeros_(run.model.token_embedding.weight)
        batch = next(iter(run.loader()))
        nats = math.log(run.model.vocab_size)
        tokens = 1 if form == "bag_of_words" else (batch.lengths - 1).float().mean().item()
        assert train_step(run, batch, loss_of(run.config)).loss == pytest.approx(nats * tokens)
