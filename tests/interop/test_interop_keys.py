"""Names of weights in both directions: every byte comes back, over many architectures."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from bifocal.errors import CheckpointError
from bifocal.interop import keys
from bifocal.model.clip import CLIP
from bifocal.model.config import (
    CLIPConfig,
    ModifiedResNetConfig,
    TextConfig,
    VisionTransformerConfig,
)

pytestmark = pytest.mark.property

HEADS = st.integers(1, 3)


@st.composite
def texts(draw: st.DrawFn) -> TextConfig:
    heads = draw(HEADS)
    return TextConfig(
        context_length=draw(st.integers(3, 12)),
        vocab_size=draw(st.integers(515, 530)),
        width=heads * 4,
        heads=heads,
        layers=draw(st.integers(1, 12)),
    )


@st.composite
def vits(draw: st.DrawFn) -> VisionTransformerConfig:
    heads, patch = draw(HEADS), draw(st.sampled_from([2, 4]))
    return VisionTransformerConfig(
        image_size=patch * draw(st.integers(1, 3)),
        patch_size=patch,
        width=heads * 4,
        heads=heads,
        layers=draw(st.integers(1, 11)),
    )


@st.composite
def resnets(draw: st.DrawFn) -> ModifiedResNetConfig:
    stages = st.tuples(*[st.integers(1, 2)] * 4)
    return ModifiedResNetConfig(image_size=32, width=2, layers=draw(stages), heads=4)


def clips(vision: st.SearchStrategy) -> st.SearchStrategy[CLIP]:
    configs = st.builds(
        CLIPConfig,
        embed_dim=st.integers(1, 9),
        vision=vision,
        text=texts(),
        init_logit_bias=st.none(),
    )
    return configs.map(CLIP)


def same_bytes(one: keys.State, other: keys.State) -> bool:
    return one.keys() == other.keys() and all(
        one[n].dtype == other[n].dtype
        and one[n].shape == other[n].shape
        and one[n].contiguous().view(-1).numpy().tobytes()
        == other[n].contiguous().view(-1).numpy().tobytes()
        for n in one
    )


@given(clips(vits()))
def test_huggingface_names_return_the_same_bytes(model: CLIP) -> None:
    state = model.state_dict()
    theirs = keys.to_huggingface(state)
    assert keys.naming(theirs) is keys.Naming.HUGGINGFACE
    assert same_bytes(keys.from_huggingface(theirs), state)


@given(clips(vits() | resnets()))
def test_custom_text_names_return_the_same_bytes(model: CLIP) -> None:
    state = model.state_dict()
    theirs = keys.to_custom_text(state)
    assert keys.naming(theirs) is keys.Naming.CUSTOM_TEXT
    assert same_bytes(keys.from_custom_text(theirs), state)


@given(clips(vits() | resnets()), st.lists(st.sampled_from(keys.WRAPPERS), max_size=3))
def test_wrappers_are_taken_off(model: CLIP, wrappers: list[str]) -> None:
    state = model.state_dict()
    prefix = "".join(wrappers)
    assert same_bytes(keys.to_openai({f"{prefix}{n}": t for n, t in state.items()}), state)


@given(clips(vits()))
def test_half_precision_survives_renaming(model: CLIP) -> None:
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    assert same_bytes(keys.to_openai(keys.to_huggingface(state)), state)


def test_a_compiled_tower_inside_is_taken_off(tiny_vit: CLIPConfig) -> None:
    state = CLIP(tiny_vit).state_dict()
    compiled = {n.replace("visual.", "visual._orig_mod."): t for n, t in state.items()}
    assert same_bytes(keys.to_openai(compiled), state)


def test_position_ids_of_older_transformers_are_left_out(tiny_vit: CLIPConfig) -> None:
    state = CLIP(tiny_vit).state_dict()
    theirs = keys.to_huggingface(state)
    for tower in ("text_model", "vision_model"):
        theirs[f"{tower}.embeddings.position_ids"] = torch.arange(12)[None]
    assert same_bytes(keys.to_openai(theirs), state)


def test_a_scale_of_one_element_becomes_a_scalar(tiny_vit: CLIPConfig) -> None:
    state = CLIP(tiny_vit).state_dict()
    assert keys.to_openai({**state, "logit_scale": torch.ones(1)})["logit_scale"].shape == ()


def test_huggingface_has_no_resnet(tiny_resnet: CLIPConfig) -> None:
    with pytest.raises(CheckpointError, match=r"no place for 'visual\."):
        keys.to_huggingface(CLIP(tiny_resnet).state_dict())


def test_a_missing_piece_of_qkv_is_named(tiny_vit: CLIPConfig) -> None:
    theirs = keys.to_huggingface(CLIP(tiny_vit).state_dict())
    del theirs["text_model.encoder.layers.1.self_attn.k_proj.bias"]
    with pytest.raises(CheckpointError, match=r"resblocks\.1\.attn\.in_proj_bias.*q, k and v"):
        keys.from_huggingface(theirs)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["fc.weight"], "fc.weight"),
        ([], "none at all"),
        (["text.token_embedding.weight", "text.proj.0.weight"], "text tower that bifocal does not"),
        (["text_model.embeddings.token_embedding.weight", "head.bias"], "'head.bias' is no weight"),
    ],
)
def test_what_is_no_clip_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        keys.to_openai({name: torch.zeros(1) for name in names})
