"""The faces' corners: overflow, unknown names, options, dictionaries, files of weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import bifocal.compat.clip as clip
import bifocal.compat.open_clip as open_clip
from bifocal.compat.towers import open_clip_model
from bifocal.errors import CheckpointError, ConfigError
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.interop import open_clip as folders
from bifocal.model import zoo
from bifocal.model.config import CLIPConfig
from bifocal.pretrained import Pretrained

pytestmark = pytest.mark.behaviour


def test_available_models_are_the_published() -> None:
    assert clip.available_models() == list(zoo.PUBLISHED)


def test_tokenize_refuses_overflow_or_cuts(published: Tokenizer) -> None:
    long = "word " * 80
    with pytest.raises(RuntimeError, match="82 tokens for a context of 77"):
        clip.tokenize(long)
    cut = clip.tokenize(["cat", long], truncate=True)
    assert cut.shape == (2, 77)
    assert cut.dtype == torch.int32
    assert cut[1, -1] == 49407
    assert cut[0].tolist() == [49406, 2368, 49407] + [0] * 74
    assert clip.tokenize("cat", context_length=5).shape == (1, 5)


def test_clip_model_has_openais_attributes(served: dict[str, Pretrained]) -> None:
    for name in ("ViT-B/32", "RN50"):
        model, preprocess = clip.load(name, "cpu")
        size = served[name].preprocess.image_size
        assert model.visual.input_resolution == size == preprocess.size
        assert model.dtype == torch.float32
        assert (model.context_length, model.vocab_size) == (77, 49408)
        assert not model.training
        assert model.state_dict().keys() == served[name].model.state_dict().keys()


def test_clip_load_says_what_there_is(published: Tokenizer) -> None:
    with pytest.raises(RuntimeError, match="no model 'ViT-B-32': known are RN50, "):
        clip.load("ViT-B-32")


def test_clip_load_takes_a_state_dict_for_quick_gelu(
    published: Tokenizer, random_clip: Callable, tmp_path: Path
) -> None:
    text = {"width": 64, "layers": 1, "heads": 1}
    vision = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1, "heads": 1}
    model = random_clip(CLIPConfig.model_validate({"embed_dim": 8, "vision": vision, "text": text}))
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    loaded, preprocess = clip.load(str(tmp_path / "m.safetensors"), device="cpu")
    image = preprocess(Image.new("RGB", (50, 40), "teal")).unsqueeze(0)
    torch.testing.assert_close(loaded.encode_image(image), model.visual(image))
    with pytest.warns(UserWarning, match="jit=True has no effect"):
        clip.load(str(tmp_path / "m.safetensors"), device="cpu", jit=True)


def test_open_clip_lists_what_it_can_build() -> None:
    assert {"RN50", "ViT-B-32-quickgelu", "ViT-L-14-336", "ViT-H-14"} <= set(
        open_clip.list_models()
    )
    assert ("ViT-L-14-336-quickgelu", "openai") in open_clip.list_pretrained()
    assert "ViT-B-32:laion2b_s34b_b79k" in open_clip.list_pretrained(as_str=True)
    config = open_clip.get_model_config("ViT-B-16")
    assert config["vision_cfg"]["patch_size"] == 16
    assert not config["quick_gelu"]
    assert open_clip.get_model_config("ViT-Z") is None


def test_weights_bring_their_own_activation(served: dict[str, Pretrained]) -> None:
    for name in ("ViT-B-32", "ViT-B-32-quickgelu", "ViT-B/32"):
        model = open_clip.create_model(name, pretrained="openai").eval()
        assert model.config.activation == "quick_gelu"
        image = torch.randn(1, 3, 16, 16)
        mine = served["ViT-B/32"].model.encode_image(image)
        torch.testing.assert_close(model.encode_image(image, normalize=True), mine)
    with pytest.raises(CheckpointError, match="says its activation is gelu"):
        open_clip.create_model("ViT-B-32", "laion2b_s34b_b79k", force_quick_gelu=True)


@pytest.fixture
def folder(tiny: CLIPConfig, random_pretrained: Callable, tmp_path: Path) -> Path:
    model = random_pretrained(tiny.model_copy(update={"init_logit_bias": -3.0}))
    folders.write(model, tmp_path / "m")
    return tmp_path / "m"


def test_forward_gives_a_tuple_or_a_dict(folder: Path) -> None:
    model, train, evaluation = open_clip.create_model_and_transforms(
        f"local-dir:{folder}", image_mean=(0.5, 0.5, 0.5)
    )
    assert model.training
    assert evaluation.mean == (0.5, 0.5, 0.5)
    model.eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["ab", "ac ad"])
    image = torch.stack([train(Image.new("RGB", (60, 50), c)) for c in ("red", "green")])
    features = model(image, tokens)
    assert len(features) == 4
    model.output_dict = True
    named = model(image, tokens)
    assert list(named) == ["image_features", "text_features", "logit_scale", "logit_bias"]
    assert model(text=tokens)["image_features"] is None
    expected = named["logit_scale"] * named["image_features"] @ named["text_features"].T
    torch.testing.assert_close(model.get_logits(image, tokens)[0], expected + named["logit_bias"])


def test_a_checkpoint_is_loaded_into_a_model(folder: Path, tmp_path: Path) -> None:
    model = open_clip.create_model(f"local-dir:{folder}")
    state = {f"module.{n}": torch.zeros_like(t) for n, t in model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "epoch_1.pt")
    missing = open_clip.load_checkpoint(model, tmp_path / "epoch_1.pt")
    assert not missing.missing_keys
    assert not missing.unexpected_keys
    assert all(not p.detach().any() for p in model.parameters())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: open_clip.create_model("ViT-B-23"), RuntimeError, "did you mean 'ViT-B-32'"),
        (lambda: open_clip.create_model("ViT-B-32", "nope"), RuntimeError, "laion2b_s34b_b79k"),
        (lambda: open_clip.create_model_from_pretrained("RN50"), RuntimeError, "pass pretrained="),
        (lambda: open_clip.create_model("RN50", precision="int4"), ConfigError, "int4"),
        (lambda: open_clip.create_model("RN50", force_image_size=9), ConfigError, "force_image"),
        (
            lambda: open_clip.image_transform(8, False, resize_mode="longest"),
            ConfigError,
            "longest",
        ),
        (lambda: open_clip.image_transform((8, 9), False), ConfigError, "square"),
        (
            lambda: open_clip.image_transform(8, True, aug_cfg={"color_jitter": 1}),
            ConfigError,
            "color_jitter",
        ),
    ],
)
def test_what_cannot_be_done_is_said(call: Callable, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_half_precision_is_kept(folder: Path) -> None:
    model = open_clip.create_model(f"local-dir:{folder}", precision="pure_bf16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


@pytest.mark.parity
def test_a_classifier_of_many_prompts_is_that_of_few_at_a_time(
    tiny_vit: CLIPConfig,
    random_pretrained: Callable[..., Pretrained],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = random_pretrained(tiny_vit)
    model = open_clip_model(source.model, source.preprocess, output_dict=False)
    names = [f"{a} {b}" for a in "abcd" for b in "qrstuvwx"]
    templates = [
        "a {}.",
        lambda name: f"the {name} of a {name}",
        "{}",
        *(f"{n} {{}}" for n in "efghik"),
    ]

    def build() -> torch.Tensor:
        return open_clip.build_zero_shot_classifier(model, source.tokenizer, names, templates)

    together = build()
    monkeypatch.setattr("bifocal.compat.open_clip_classifier.FEW", 10**6)
    torch.testing.assert_close(together, build(), atol=2e-6, rtol=0)
    assert together.shape == (16, len(names))
    monkeypatch.setattr("bifocal.compat.open_clip_classifier.FEW", 256)
    monkeypatch.setattr(type(model), "read_text", None)
    assert torch.equal(build(), together)
