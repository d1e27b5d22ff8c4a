"""bifocal and transformers with the same weights: features, gradients, texts, pictures, files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from bifocal.interop import huggingface, keys
from bifocal.interop.load import load
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.model import zoo
from bifocal.model.config import CLIPConfig
from bifocal.pretrained import Pretrained, read_picture

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

Make = Callable[..., Pretrained]


@pytest.fixture(params=["quick_gelu", "gelu"])
def written(request, tiny_vit: CLIPConfig, random_pretrained: Make, tmp_path: Path):
    """A model, and the folder that bifocal wrote for transformers."""
    config = tiny_vit.model_copy(update={"activation": request.param})
    model = random_pretrained(config)
    huggingface.write(model, tmp_path / "written")
    return model, tmp_path / "written"


def logits_of(theirs, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return theirs(input_ids=tokens, pixel_values=images).logits_per_image


def test_features_are_equal(written, transformers: ModuleType, assert_close) -> None:
    model, folder = written
    theirs = transformers.CLIPModel.from_pretrained(folder).eval()
    images, tokens = torch.randn(3, 3, 16, 16), model.tokenizer(["a cat", "", "ab ac ad"])
    out = theirs(input_ids=tokens, pixel_values=images)
    assert_close(model.model.encode_image(images), out.image_embeds)
    assert_close(model.model.encode_text(tokens), out.text_embeds)
    assert_close(model.model(images, tokens)[0], out.logits_per_image)


def test_gradients_of_a_step_are_equal(written, transformers: ModuleType) -> None:
    model, folder = written
    theirs = transformers.CLIPModel.from_pretrained(folder).train()
    images, tokens = torch.randn(3, 3, 16, 16), model.tokenizer(["a cat", "", "ab ac ad"])
    features = model.model.train().features(images, tokens)
    loss, seeds = SoftmaxLoss().value_and_grad(features)
    torch.autograd.backward(
        (features.image, features.text, features.logit_scale),
        (seeds.image, seeds.text, seeds.logit_scale),
    )
    out = theirs(input_ids=tokens, pixel_values=images, return_loss=True)
    out.loss.backward()
    assert loss.item() == pytest.approx(out.loss.item(), rel=1e-5)
    gradients = {n: p.grad for n, p in theirs.named_parameters()}
    renamed = keys.from_huggingface(gradients)
    largest = max(g.abs().max() for g in renamed.values())
    for name, parameter in model.model.named_parameters():
        assert (parameter.grad - renamed[name]).abs().max() <= 1e-5 * largest, name


def test_the_processor_reads_as_bifocal_does(
    written, transformers: ModuleType, picture: Image.Image
) -> None:
    model, folder = written
    processor = transformers.CLIPProcessor.from_pretrained(folder)
    texts = ["ab abacus", "ab  AC it's 42!", ""]
    got = processor(
        text=texts, images=picture, return_tensors="pt", padding="max_length", truncation=True
    )
    mine = model.tokenizer(texts)
    assert torch.equal(got["input_ids"].where(mine > 0, 0), mine)
    pixels = model.preprocess.normalize(model.preprocess.fit(read_picture(picture))[None])
    levels = (got["pixel_values"] - pixels).abs().max() * 255 * max(model.preprocess.std)
    assert levels <= 2.5


def test_what_transformers_saves_bifocal_loads(
    written, transformers: ModuleType, tmp_path: Path
) -> None:
    model, folder = written
    again = tmp_path / "again"
    transformers.CLIPModel.from_pretrained(folder).save_pretrained(again)
    transformers.CLIPProcessor.from_pretrained(folder).save_pretrained(again)
    loaded = load(again)
    assert loaded.model.config.model_copy(update={"init_temperature": 0.07}) == model.model.config
    assert loaded.tokenizer.merges == model.tokenizer.merges
    assert loaded.preprocess == model.preprocess
    state = loaded.model.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in model.model.state_dict().items())


@pytest.mark.usefixtures("published_sizes")
@pytest.mark.parametrize("name", [n for n in zoo.PUBLISHED if n.startswith("ViT")])
@torch.inference_mode()
def test_published_architectures_compute_the_same(
    name: str, transformers: ModuleType, random_clip, assert_close
) -> None:
    from bifocal.interop.huggingface_config import format_config, parse_config

    config = zoo.PUBLISHED[name]
    model = random_clip(config)
    table = format_config(config)
    assert parse_config(table, name) == config
    with torch.device("meta"):
        theirs = transformers.CLIPModel(transformers.CLIPConfig.from_dict(table))
    state = keys.to_huggingface(model.state_dict())
    for tower in ("text_model", "vision_model"):
        rows = state[f"{tower}.embeddings.position_embedding.weight"].shape[0]
        getattr(theirs, tower).embeddings.position_ids = torch.arange(rows)[None]
    theirs.load_state_dict(state, assign=True)
    theirs.eval()
    size = config.vision.image_size
    images, tokens = torch.randn(2, 3, size, size), torch.randint(1, 49406, (2, 77))
    tokens[:, 0], tokens[0, 9], tokens[1, 76] = 49406, 49407, 49407
    out = theirs(input_ids=tokens, pixel_values=images)
    assert_close(model.encode_image(images), out.image_embeds)
    assert_close(model.encode_text(tokens), out.text_embeds)
    assert_close(model(images, tokens)[0], out.logits_per_image)
