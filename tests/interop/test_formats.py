"""Every format in and out: the same model comes back, and what cannot be known is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bifocal.errors import CheckpointError, ConfigError, TokenizerError
from bifocal.interop import huggingface, keys, open_clip, open_clip_config
from bifocal.interop.convert import Target, compare, convert
from bifocal.interop.load import load
from bifocal.interop.source import Hints
from bifocal.model.config import CLIPConfig
from bifocal.pretrained import Pretrained

pytestmark = pytest.mark.behaviour

Make = Callable[..., Pretrained]


def same_tensors(one: Pretrained, other: Pretrained) -> bool:
    mine, theirs = one.model.state_dict(), other.model.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[n], theirs[n]) for n in mine)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_an_archive_of_openai_loads_whole(
    half: bool,
    published_like: CLIPConfig,
    random_pretrained: Make,
    save_torchscript,
    tmp_path: Path,
) -> None:
    model = random_pretrained(published_like)
    with torch.no_grad():
        for tensor in model.model.parameters():
            tensor.copy_(tensor.half() if half else tensor)
    state = {n: t.half() if half and t.ndim > 1 else t for n, t in model.model.state_dict().items()}
    for name, value in (("input_resolution", 32), ("context_length", 9), ("vocab_size", 530)):
        state[name] = torch.tensor(value)
    save_torchscript(state, tmp_path / "RN.pt")
    loaded = load(tmp_path / "RN.pt", vocabulary=model.tokenizer)
    assert loaded.model.config == published_like
    assert same_tensors(model, loaded)
    assert compare(model, loaded).image_features == 0
    assert {t.dtype for t in loaded.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_bare_state_dict_asks_for_its_activation(
    suffix: str,
    activation: str,
    published_like: CLIPConfig,
    random_pretrained: Make,
    tmp_path: Path,
) -> None:
    config = published_like.model_copy(update={"activation": activation})
    model, path = random_pretrained(config), tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save(model.model.state_dict(), path)
    else:
        save_file(model.model.state_dict(), path)
    with pytest.raises(CheckpointError, match="pass activation="):
        load(path, vocabulary=model.tokenizer)
    loaded = load(path, activation=activation, vocabulary=model.tokenizer)
    assert loaded.model.config == config
    assert same_tensors(model, loaded)


def test_the_activation_of_an_archive_is_not_to_be_argued(
    published_like: CLIPConfig, random_pretrained: Make, save_torchscript, tmp_path: Path
) -> None:
    model = random_pretrained(published_like)
    save_torchscript(model.model.state_dict(), tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="says its activation is quick_gelu"):
        load(tmp_path / "m.pt", activation="gelu", vocabulary=model.tokenizer)


def test_heads_that_are_not_64_wide_are_asked_for(
    tiny_vit: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    model, path = random_pretrained(tiny_vit), tmp_path / "m.safetensors"
    save_file(model.model.state_dict(), path)
    with pytest.raises(CheckpointError, match="name the architecture"):
        load(path, activation="quick_gelu", vocabulary=model.tokenizer)
    loaded = load(path, architecture=tiny_vit, vocabulary=model.tokenizer)
    assert same_tensors(model, loaded)


@pytest.mark.parametrize("config", ["open_clip", "open_clip_config.json", "config.json"])
def test_the_architecture_may_be_a_configuration_in_a_file(
    config: str, tiny_vit: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    model, weights = random_pretrained(tiny_vit), tmp_path / "m.safetensors"
    save_file(keys.to_huggingface(model.model.state_dict()), weights)
    writer = huggingface if config == "config.json" else open_clip
    writer.write(model, tmp_path / "described")
    path = tmp_path / "described" / config
    if config == "open_clip":
        path = tmp_path / "ViT-own.json"
        path.write_text(json.dumps(open_clip_config.format_config(tiny_vit)))
    loaded = load(weights, architecture=path, vocabulary=model.tokenizer)
    assert loaded.model.config == tiny_vit
    assert same_tensors(model, loaded)


def test_an_architecture_that_is_another_is_refused(
    tiny_vit: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    model, weights = random_pretrained(tiny_vit), tmp_path / "m.safetensors"
    save_file(model.model.state_dict(), weights)
    with pytest.raises(CheckpointError, match="do not fit their configuration"):
        load(weights, architecture="ViT-B/32", vocabulary=model.tokenizer)
    with pytest.raises(ConfigError, match="did you mean 'ViT-B/32'"):
        load(weights, architecture="ViT-B/23", vocabulary=model.tokenizer)
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(CheckpointError, match="describes no CLIP"):
        load(weights, architecture=tmp_path / "x.json", vocabulary=model.tokenizer)


def test_a_vocabulary_of_ones_own_is_asked_for(
    published_like: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    save_file(random_pretrained(published_like).model.state_dict(), path)
    with pytest.raises(TokenizerError, match="530 ids are not the 49408"):
        load(path, activation="gelu")


@pytest.mark.parametrize("target", list(Target))
def test_a_conversion_is_the_same_model(
    target: Target, published_like: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    model = random_pretrained(published_like)
    model.save(tmp_path / "source")
    out = tmp_path / ("out.pt" if target is Target.OPENAI else "out")
    if target is Target.HUGGINGFACE and hasattr(published_like.vision, "feature_width"):
        with pytest.raises(CheckpointError, match="no ResNet tower"):
            convert(tmp_path / "source", out, target, Hints())
        assert [path.name for path in tmp_path.iterdir()] == ["source"]
        return
    found = convert(tmp_path / "source", out, target, Hints())
    assert found.weights == found.image_features == found.text_features == 0
    hints = {"activation": "quick_gelu", "vocabulary": model.tokenizer}
    loaded = load(out, **(hints if target is Target.OPENAI else {}))
    assert same_tensors(model, loaded)
    assert loaded.model.config == model.model.config
    assert loaded.preprocess == model.preprocess
    assert loaded.tokenizer.merges == model.tokenizer.merges
    record = (
        tmp_path / "out.conversion.json" if target is Target.OPENAI else out / "conversion.json"
    )
    assert json.loads(record.read_text())["largest_differences"]["image_features"] == 0
    assert not list(tmp_path.glob(".partial*"))


def test_around_the_world_no_byte_changes(
    published_like: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    model = random_pretrained(published_like)
    first = tmp_path / "0.safetensors"
    save_file(model.model.state_dict(), first)
    resnet = hasattr(published_like.vision, "feature_width")
    stops = [Target.OPEN_CLIP, Target.BIFOCAL] if resnet else list(reversed(Target))
    source, hints = first, Hints(activation="quick_gelu", vocabulary=model.tokenizer)
    for n, target in enumerate([t for t in stops if t is not Target.OPENAI]):
        convert(source, tmp_path / f"stop-{n}", target, hints)
        source, hints = tmp_path / f"stop-{n}", Hints()
    last = tmp_path / "last.safetensors"
    convert(source, last, Target.OPENAI, hints)
    before, after = load_file(first), load_file(last)
    assert before.keys() == after.keys()
    assert all(before[n].numpy().tobytes() == after[n].numpy().tobytes() for n in before)


def test_an_existing_destination_is_kept(
    published_like: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    random_pretrained(published_like).save(tmp_path / "m")
    with pytest.raises(CheckpointError, match="exists"):
        convert(tmp_path / "m", tmp_path / "m", Target.OPEN_CLIP, Hints())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "gelu"}, "not quick_gelu"),
        ({"init_logit_bias": -10.0}, "has a logit bias"),
    ],
)
def test_openai_refuses_what_its_package_would_change(
    change: dict, message: str, published_like: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    config = published_like.model_copy(update=change)
    random_pretrained(config).save(tmp_path / "m")
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / "m", tmp_path / "m.pt", Target.OPENAI, Hints())


def test_a_logit_bias_travels_through_open_clip(
    tiny: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    config = tiny.model_copy(update={"init_logit_bias": -10.0, "activation": "gelu"})
    model = random_pretrained(config)
    open_clip.write(model, tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert loaded.model.config == config
    assert same_tensors(model, loaded)
    images = torch.randn(2, 3, config.vision.image_size, config.vision.image_size)
    logits, _ = loaded.model(images, loaded.tokenizer(["a", "b"]))
    features = loaded.model.features(images, loaded.tokenizer(["a", "b"]))
    cosines = features.logit_scale * features.image @ features.text.T
    torch.testing.assert_close(logits, cosines + loaded.model.logit_bias)
    assert loaded.model.logit_bias.item() == pytest.approx(-10, abs=0.2)


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_custom_text_and_wrapped_weights_of_open_clip_load(
    prefix: str, tiny: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    model = random_pretrained(tiny)
    open_clip.write(model, tmp_path)
    (tmp_path / "open_clip_model.safetensors").unlink()
    state = keys.to_custom_text(model.model.state_dict())
    named = {f"{prefix}{n}": t for n, t in state.items()}
    torch.save({"epoch": 1, "state_dict": named}, tmp_path / "open_clip_pytorch_model.bin")
    assert same_tensors(model, load(tmp_path))


def test_vocab_and_merges_serve_where_there_is_no_tokenizer_json(
    tiny_vit: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    model = random_pretrained(tiny_vit)
    huggingface.write(model, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert load(tmp_path).tokenizer.merges == model.tokenizer.merges


def test_the_published_vocabulary_survives_every_form(
    vocabulary: Path, tiny_vit: CLIPConfig, random_clip, tmp_path: Path
) -> None:
    from bifocal.inputs.preprocess import Preprocess
    from bifocal.inputs.tokenizer import Tokenizer

    text = tiny_vit.text.model_copy(update={"vocab_size": 49408})
    config = tiny_vit.model_copy(update={"text": text})
    tokenizer = Tokenizer.load(vocabulary, text.context_length)
    model = Pretrained(random_clip(config), tokenizer, Preprocess(image_size=16))
    for target in (Target.HUGGINGFACE, Target.OPEN_CLIP):
        model.save(tmp_path / f"source-{target}")
        convert(tmp_path / f"source-{target}", tmp_path / target, target, Hints())
        loaded = load(tmp_path / target)
        assert loaded.tokenizer.merges == tokenizer.merges
        assert loaded.tokenizer("A café &amp; 猫 🐈").equal(tokenizer("A café &amp; 猫 🐈"))
