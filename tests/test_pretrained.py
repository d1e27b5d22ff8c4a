"""A model as one artifact: what is saved is what is loaded, and parts that differ are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from bifocal.errors import BifocalError, CheckpointError, ConfigError, DataError
from bifocal.inputs.preprocess import Preprocess
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.model.clip import CLIP
from bifocal.pretrained import Pretrained, load

TEXTS = ["a red circle", "two blue squares", ""]


@pytest.fixture
def picture() -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    return Image.fromarray(levels)


@pytest.mark.property
def test_saved_and_loaded_gives_the_same_features(tiny, random_pretrained, tmp_path, picture):
    saved = random_pretrained(tiny)
    saved = Pretrained(
        saved.model,
        saved.tokenizer,
        Preprocess(image_size=tiny.vision.image_size, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
    )
    saved.save(tmp_path / "new" / "model")
    loaded = load(tmp_path / "new" / "model")
    assert loaded.model.config == saved.model.config
    assert loaded.preprocess == saved.preprocess
    assert torch.equal(loaded.encode_text(TEXTS), saved.encode_text(TEXTS))
    assert torch.equal(loaded.encode_image([picture]), saved.encode_image([picture]))
    assert not loaded.model.training
    assert {path.name for path in (tmp_path / "new" / "model").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }


@pytest.mark.property
def test_features_do_not_depend_on_the_batch_and_have_unit_norm(tiny, random_pretrained, picture):
    clip = random_pretrained(tiny)
    texts = ["a" * n for n in range(1, 9)]
    together, apart = clip.encode_text(texts), clip.encode_text(texts, batch_size=3)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6)
    pictures = [picture, picture.rotate(90), picture.resize((16, 16))]
    images = clip.encode_image(pictures, batch_size=2)
    torch.testing.assert_close(images, clip.encode_image(pictures), rtol=0, atol=1e-5)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(3))
    assert images.dtype == torch.float32
    assert not images.requires_grad
    assert clip.encode_text([]).shape == (0, tiny.embed_dim)
    assert torch.equal(clip.encode_text("ab"), clip.encode_text(["ab"]))


@pytest.mark.parity
def test_a_path_an_array_and_a_pillow_picture_are_the_same(
    tiny_vit, random_pretrained, tmp_path, picture
):
    clip = random_pretrained(tiny_vit)
    picture.save(tmp_path / "a.png")
    pictures = [tmp_path / "a.png", str(tmp_path / "a.png"), np.asarray(picture), picture]
    features = clip.encode_image(pictures)
    for other in features[1:]:
        torch.testing.assert_close(other, features[0], rtol=0, atol=1e-6)
    # So are those with transparency, grey or a palette.
    for mode in ("RGBA", "L", "P", "LA", "1"):
        other = picture.convert(mode)
        if mode == "RGBA":
            other.putalpha(100)
        other.save(tmp_path / "b.png")
        by_path, by_pillow = clip.encode_image([tmp_path / "b.png", other])
        torch.testing.assert_close(by_path, by_pillow, rtol=0, atol=1e-6)


@pytest.mark.behaviour
def test_a_picture_that_cannot_be_read_is_named(tiny_vit, random_pretrained, tmp_path):
    clip = random_pretrained(tiny_vit)
    (tmp_path / "text.jpg").write_text("hello")
    for name, reason in (("none.jpg", "No such file"), ("text.jpg", "known format")):
        with pytest.raises(DataError, match=rf"cannot read the picture .*{name}: .*{reason}"):
            clip.encode_image([tmp_path / name])


@pytest.mark.property
def test_a_classifier_is_the_normalised_mean_of_its_prompts(tiny_vit, random_pretrained, picture):
    clip = random_pretrained(tiny_vit)
    templates = ["a {}", "the {}!", "{}"]
    classifier = clip.zero_shot(["cat", "owl", "b"], templates)
    for row, prompts in zip(
        classifier.head.weights,
        (["a cat", "the cat!", "cat"], ["an owl", "the owl!", "owl"], ["a b", "the b!", "b"]),
        strict=True,
    ):
        mean = clip.encode_text(prompts).mean(dim=0)
        torch.testing.assert_close(row, mean / mean.norm(), rtol=0, atol=1e-6)
    probabilities = classifier([picture, picture.rotate(180)])
    logits = clip.encode_image([picture, picture.rotate(180)]) @ classifier.head.weights.T
    expected = (logits * clip.model.logit_scale.exp().detach()).softmax(dim=1)
    torch.testing.assert_close(probabilities, expected)
    assert classifier.class_names == ("cat", "owl", "b")
    with pytest.raises(ConfigError, match="at least one class name"):
        clip.zero_shot([])


@pytest.mark.behaviour
def test_parts_that_do_not_belong_together_are_refused(tiny_vit, random_pretrained):
    clip = random_pretrained(tiny_vit)
    model, tokenizer, preprocess = clip.model, clip.tokenizer, clip.preprocess
    with pytest.raises(CheckpointError, match="tokenizer of 514 ids beside a model of 600"):
        Pretrained(model, Tokenizer([], 12), preprocess)
    with pytest.raises(
        CheckpointError, match="tokenizer for 9 tokens beside a model that reads 12"
    ):
        Pretrained(model, Tokenizer(tokenizer.merges, 9), preprocess)
    with pytest.raises(CheckpointError, match="to 224 pixels beside a model that reads 16"):
        Pretrained(model, tokenizer, Preprocess())


def _change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    for name, tensor in changes.items():
        name = name.replace("__", ".")
        state.pop(name, None)
        if tensor is not None:
            state[name] = tensor
    save_file(state, path)


@pytest.mark.behaviour
def test_weights_that_do_not_fit_are_named(tiny_vit, random_pretrained, tmp_path):
    clip = random_pretrained(tiny_vit)

    def saved(name: str) -> Path:
        clip.save(tmp_path / name)
        return tmp_path / name

    folder = saved("shape")
    _change_weights(folder, text_projection=torch.zeros(3, 4))
    with pytest.raises(
        CheckpointError, match=r"'text_projection' is \(3, 4\), expected \(16, 16\)"
    ):
        load(folder)
    folder = saved("missing")
    _change_weights(folder, ln_final__bias=None)
    with pytest.raises(CheckpointError, match=r"1 faults.* 'ln_final\.bias' is missing"):
        load(folder)
    folder = saved("unknown")
    _change_weights(folder, ln_final__bais=torch.zeros(16))
    with pytest.raises(
        CheckpointError, match=r"'ln_final\.bais' is unknown — did you mean 'ln_fin"
    ):
        load(folder)
    # A configuration that was changed does not fit the weights either.
    folder = saved("config")
    table = json.loads((folder / "config.json").read_text())
    table["model"]["vision"]["layers"] = 3
    (folder / "config.json").write_text(json.dumps(table))
    with pytest.raises(CheckpointError, match=r"do not fit their configuration.*12 faults"):
        load(folder)


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b""),
        ("config.json", b"[]"),
        ("config.json", b"3"),
        ("config.json", b'{"format": "bifocal.model/1"}'),
        ("config.json", b'{"format": "bifocal.model/1", "model": 3, "preprocess": {}}'),
        ("config.json", b'{"format": "bifocal.model/99", "model": {}, "preprocess": {}}'),
        ("config.json", b"\xff\xfe"),
        ("model.safetensors", b"no weights"),
        ("model.safetensors", b""),
        ("tokenizer.json", b"{}"),
    ],
)
def test_damaged_files_are_refused(tiny_vit, random_pretrained, tmp_path, name, content):
    random_pretrained(tiny_vit).save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BifocalError) as refused:
        load(tmp_path)
    assert str(tmp_path) in str(refused.value) or "bifocal.model/99" in str(refused.value)


@pytest.mark.behaviour
def test_a_folder_without_a_model_says_what_to_give(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(CheckpointError, match=r"no model in .*give a run's folder"):
            load(path)


@pytest.mark.behaviour
def test_a_folder_that_cannot_be_written_is_an_error(tiny_vit, random_pretrained, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot write the model to"):
        random_pretrained(tiny_vit).save(tmp_path / "file")


@pytest.mark.behaviour
def test_a_run_means_its_model_or_its_newest_checkpoint(tiny_vit, random_pretrained, tmp_path):
    old, new, final = (random_pretrained(tiny_vit, seed) for seed in (1, 2, 3))
    old.save(tmp_path / "checkpoints/step-00000010")
    new.save(tmp_path / "checkpoints/step-00000200")
    assert torch.equal(load(tmp_path).encode_text(TEXTS), new.encode_text(TEXTS))
    final.save(tmp_path / "model")
    assert torch.equal(load(tmp_path).encode_text(TEXTS), final.encode_text(TEXTS))
    step = load(tmp_path / "checkpoints/step-00000010")
    assert torch.equal(step.encode_text(TEXTS), old.encode_text(TEXTS))
    assert isinstance(step.model, CLIP)
