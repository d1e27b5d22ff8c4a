"""bifocal and open_clip with the same weights: features, gradients, tokenizer, pictures, files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from bifocal.inputs.tokenizer import Tokenizer
from bifocal.interop import keys, layout, open_clip_config
from bifocal.interop import open_clip as folders
from bifocal.interop.load import load
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.model import zoo
from bifocal.model.clip import CLIP
from bifocal.model.config import CLIPConfig
from bifocal.pretrained import Pretrained

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

Make = Callable[..., Pretrained]
ACTIVATIONS = ["quick_gelu", "gelu"]


def inputs(config: CLIPConfig) -> tuple[torch.Tensor, torch.Tensor]:
    size, text = config.vision.image_size, config.text
    tokens = torch.randint(1, text.vocab_size - 2, (3, text.context_length))
    tokens[:, 0] = text.vocab_size - 2
    for row, end in enumerate((2, text.context_length // 2, text.context_length - 1)):
        tokens[row, end], tokens[row, end + 1 :] = text.vocab_size - 1, 0
    return torch.randn(3, 3, size, size), tokens


@pytest.fixture(params=ACTIVATIONS)
def pair(request, open_clip: ModuleType, tiny: CLIPConfig, random_clip):
    """The same random model twice: bifocal's and open_clip's."""
    config = tiny.model_copy(update={"activation": request.param})
    model = random_clip(config)
    theirs = open_clip.CLIP(**open_clip_config.format_config(config)).eval()
    theirs.load_state_dict(model.state_dict())
    return model, theirs


def test_features_are_equal(pair, assert_close) -> None:
    model, theirs = pair
    images, tokens = inputs(model.config)
    assert_close(model.visual(images), theirs.encode_image(images))
    assert_close(model.read_text(tokens), theirs.encode_text(tokens))
    assert_close(model.encode_image(images), theirs.encode_image(images, normalize=True))
    assert_close(model.encode_text(tokens), theirs.encode_text(tokens, normalize=True))
    for mine, other in zip(model(images, tokens), theirs.get_logits(images, tokens), strict=True):
        assert_close(mine, other)


def test_gradients_of_a_step_are_equal(pair, open_clip: ModuleType) -> None:
    model, theirs = (module.train() for module in pair)
    images, tokens = inputs(model.config)
    features = model.features(images, tokens)
    loss, seeds = SoftmaxLoss().value_and_grad(features)
    torch.autograd.backward(
        (features.image, features.text, features.logit_scale),
        (seeds.image, seeds.text, seeds.logit_scale),
    )
    expected = open_clip.ClipLoss()(*theirs(images, tokens))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    largest = max(p.grad.abs().max() for p in theirs.parameters())
    mine = dict(model.named_parameters())
    for name, parameter in theirs.named_parameters():
        gap = (mine[name].grad - parameter.grad).abs().max()
        assert gap <= 1e-5 * largest, name


@pytest.mark.parametrize("bias", [None, -10.0])
def test_what_bifocal_writes_open_clip_opens(
    bias, open_clip: ModuleType, tiny: CLIPConfig, random_pretrained: Make, picture, tmp_path: Path
) -> None:
    model = random_pretrained(tiny.model_copy(update={"init_logit_bias": bias}))
    folders.write(model, tmp_path)
    name = f"local-dir:{tmp_path}"
    theirs, _, preprocess = open_clip.create_model_and_transforms(name)
    assert all(torch.equal(t, theirs.state_dict()[n]) for n, t in model.model.state_dict().items())
    levels = (
        (preprocess(picture) - model_input(model, picture)).abs().max()
        * 255
        * min(model.preprocess.std)
    )
    assert levels <= 2.01
    if hasattr(open_clip, "get_tokenizer"):
        tokens = open_clip.get_tokenizer(name)(["a photo of a cat", "ab  AC"])
        end = model.tokenizer(["a photo of a cat", "ab  AC"])
        assert torch.equal(tokens.where(end > 0, 0), end)


def model_input(model: Pretrained, picture: Image.Image) -> torch.Tensor:
    from bifocal.pretrained import read_picture

    return model.preprocess.normalize(model.preprocess.fit(read_picture(picture))[None])[0]


@pytest.mark.parametrize("custom_text", [False, True])
def test_what_open_clip_saves_bifocal_loads(
    custom_text: bool, pair, open_clip: ModuleType, random_pretrained: Make, tmp_path: Path
) -> None:
    model, theirs = pair
    folders.write(random_pretrained(model.config), tmp_path)
    (tmp_path / folders.WEIGHTS[0]).unlink()
    if custom_text:
        theirs = open_clip.CustomTextCLIP(**open_clip_config.format_config(model.config)).eval()
        theirs.load_state_dict(keys.to_custom_text(model.state_dict()))
    state = {f"module.{n}": t for n, t in theirs.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "open_clip_pytorch_model.bin")
    loaded = load(tmp_path).model.state_dict()
    assert all(torch.equal(t, loaded[n]) for n, t in model.state_dict().items())


def test_configurations_that_open_clip_ships_are_the_zoo(open_clip: ModuleType) -> None:
    for name, config in zoo.PUBLISHED.items():
        theirs = open_clip.get_model_config(open_clip_name(name) + "-quickgelu")
        assert open_clip_config.parse_config(theirs, name) == config


def test_every_configuration_of_open_clips_is_followed_or_refused(open_clip: ModuleType) -> None:
    from bifocal.errors import CheckpointError

    followed = []
    for name in open_clip.list_models():
        try:
            open_clip_config.parse_config(open_clip.get_model_config(name), name)
        except CheckpointError:
            continue
        followed.append(name)
    assert {"ViT-B-32", "ViT-H-14", "ViT-L-14-336-quickgelu", "RN50x64"} <= set(followed)
    assert not {"coca_ViT-B-32", "convnext_base", "ViT-B-16-SigLIP", "ViT-bigG-14"} & set(followed)


def test_token_ids_are_equal(open_clip: ModuleType, vocabulary: Path) -> None:
    theirs, mine = open_clip.SimpleTokenizer(str(vocabulary)), Tokenizer.load(vocabulary)
    captions = ["", "A photo of a cat.", "it's &amp;amp; 10% — naïve\tcafé\n\n☕️ 猫 ﬁ", "x " * 100]
    assert torch.equal(mine(captions), theirs(captions))


def open_clip_name(name: str) -> str:
    return name.replace("@336px", "-336").replace("/", "-")


@pytest.fixture(params=list(zoo.PUBLISHED))
def published_pair(request, published_sizes: None, open_clip: ModuleType):
    """A published architecture twice, on the same random weights in the same memory."""
    theirs = open_clip.create_model(open_clip_name(request.param) + "-quickgelu")
    with torch.no_grad():
        for key, tensor in theirs.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim:
                noise = 0.02 * torch.randn(tensor.shape)
                tensor.add_(noise.abs() if key.endswith("running_var") else noise)
    state = keys.to_openai(theirs.state_dict())
    config = layout.infer(state, "quick_gelu")
    assert config == zoo.PUBLISHED[request.param]
    with torch.device("meta"):
        model = CLIP(config)
    model.load_state_dict(state, assign=True)
    return model, theirs


@torch.inference_mode()
def test_published_architectures_compute_the_same(published_pair, assert_close) -> None:
    model, theirs = (module.eval() for module in published_pair)
    images, tokens = inputs(model.config)
    assert_close(model.visual(images), theirs.encode_image(images))
    assert_close(model.read_text(tokens), theirs.encode_text(tokens))
    assert_close(model(images, tokens)[0], theirs.get_logits(images, tokens)[0])


def test_published_architectures_learn_the_same(published_pair, open_clip: ModuleType) -> None:
    model, theirs = (module.train() for module in published_pair)
    images, tokens = inputs(model.config)
    features = model.features(images, tokens)
    _, seeds = SoftmaxLoss().value_and_grad(features)
    torch.autograd.backward(
        (features.image, features.text, features.logit_scale),
        (seeds.image, seeds.text, seeds.logit_scale),
    )
    mine = {name: parameter.grad for name, parameter in model.named_parameters()}
    del features, seeds
    open_clip.ClipLoss()(*theirs(images, tokens)).backward()
    gap = total = 0.0
    for name, parameter in theirs.named_parameters():
        gap += float((mine[name] - parameter.grad).double().square().sum())
        total += float(parameter.grad.double().square().sum())
    print(f"relative difference of the gradient {(gap / total) ** 0.5:.1e}")
    assert (gap / total) ** 0.5 <= 2e-5
