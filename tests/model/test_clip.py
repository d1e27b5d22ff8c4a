"""Both towers together: shapes, norms, causality, initial weights and cost."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bifocal.errors import ConfigError
from bifocal.model import zoo
from bifocal.model.clip import CLIP
from bifocal.model.config import CLIPConfig, TextConfig
from bifocal.model.modified_resnet import Bottleneck, ModifiedResNet

END = 599


def images(config: CLIPConfig, count: int) -> Tensor:
    size = config.vision.image_size
    return torch.randn(count, 3, size, size)


def captions(lengths: list[int], context: int) -> Tensor:
    """Rows of random ids with end-of-text at the end of each length, padded with 0."""
    tokens = torch.zeros(len(lengths), context, dtype=torch.int64)
    for row, length in zip(tokens, lengths, strict=True):
        row[: length - 1] = torch.randint(1, END, (length - 1,))
        row[length - 1] = END
    return tokens


@pytest.mark.behaviour
def test_logits_are_scaled_cosines_and_each_others_transpose(tiny):
    model = CLIP(tiny).eval()
    with torch.no_grad():
        pictures, tokens = images(tiny, 3), captions([4, 7], 12)
        per_image, per_text = model(pictures, tokens)
        image, text = model.encode_image(pictures), model.encode_text(tokens)
    assert per_image.shape == (3, 2)
    assert torch.equal(per_text, per_image.T)
    for features in (image, text):
        assert features.shape[1] == tiny.embed_dim
        torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
    cosines = F.cosine_similarity(image[:, None], text[None], dim=-1)
    torch.testing.assert_close(per_image, cosines / 0.07, rtol=1e-4, atol=1e-4)


@pytest.mark.behaviour
def test_a_bias_of_the_logits_is_added_only_where_asked(tiny_vit):
    biased = CLIP(tiny_vit.model_copy(update={"init_logit_bias": -10.0})).eval()
    plain = CLIP(tiny_vit).eval()
    assert plain.logit_bias is None
    with torch.no_grad():
        pictures, tokens = images(tiny_vit, 2), captions([4, 7], 12)
        difference = biased(pictures, tokens)[0] - plain(pictures, tokens)[0]
    torch.testing.assert_close(difference, torch.full((2, 2), -10.0))


@pytest.mark.property
@given(lengths=st.lists(st.integers(2, 11), min_size=1, max_size=4), seed=st.integers(0, 9))
def test_features_do_not_depend_on_what_follows_the_end_of_text(tiny_vit, lengths, seed):
    torch.manual_seed(seed)
    model = CLIP(tiny_vit, seed).eval()
    # The last row fills the context, so that nothing is cut off but by the mask.
    tokens = captions([*lengths, 12], 12)
    noisy = tokens.clone()
    for row, length in zip(noisy, lengths, strict=False):
        row[length:] = torch.randint(0, END, (12 - length,))
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode_text(noisy), model.encode_text(tokens), rtol=0, atol=1e-6
        )
        # The ids before it do matter.
        noisy[0, 0] = tokens[0, 0] % 598 + 1
        assert (model.encode_text(noisy)[0] - model.encode_text(tokens)[0]).abs().max() > 1e-4


@pytest.mark.property
@given(lengths=st.lists(st.integers(2, 12), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_trimmed_text_gives_the_features_of_the_whole_context(tiny_vit, lengths, seed):
    torch.manual_seed(seed)
    model = CLIP(tiny_vit, seed).eval()
    tokens = captions(lengths, 12)
    with torch.no_grad():
        x = model.transformer(model.token_embedding(tokens) + model.positional_embedding)
        whole = (model.ln_final(x) @ model.text_projection)[range(len(x)), tokens.argmax(dim=1)]
        whole = F.normalize(whole, dim=-1)
        torch.testing.assert_close(model.encode_text(tokens), whole, rtol=0, atol=1e-6)
        trimmed = tokens[:, : max(lengths)]
        torch.testing.assert_close(model.encode_text(trimmed), whole, rtol=0, atol=1e-6)
        torch.testing.assert_close(model.encode_text(trimmed, lengths), whole, rtol=0, atol=1e-6)


@pytest.mark.property
@pytest.mark.parametrize("checkpointing", [False, True])
def test_tokens_that_are_not_read_are_left_out_exactly(tiny_vit, checkpointing):
    """Packed captions, and last blocks of one token, against every token of the context."""
    tiny_vit = tiny_vit.model_copy(update={"text": tiny_vit.text.model_copy(update={"layers": 3})})
    model = CLIP(tiny_vit).double()
    model.set_gradient_checkpointing(checkpointing)
    pictures, tokens = images(tiny_vit, 4).double(), captions([3, 12, 2, 7], 12)
    seeds = torch.randn(2, 4, tiny_vit.embed_dim).double()

    x = model.transformer(model.token_embedding(tokens) + model.positional_embedding)
    text = (model.ln_final(x) @ model.text_projection)[range(4), tokens.argmax(dim=1)]
    visual = model.visual
    patches = visual.conv1(pictures).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(4, 1, -1), patches], dim=1)
    x = visual.transformer(visual.ln_pre(x + visual.positional_embedding))
    whole = torch.stack([visual.ln_post(x)[:, 0] @ visual.proj, text])
    expected = torch.autograd.grad(whole, list(model.parameters()), seeds, allow_unused=True)

    found = torch.stack([model.read_image(pictures), model.read_text(tokens)])
    grads = torch.autograd.grad(found, list(model.parameters()), seeds, allow_unused=True)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)
    for (name, _), grad, plain in zip(model.named_parameters(), grads, expected, strict=True):
        assert (grad is None) == (plain is None) == (name == "logit_scale"), name
        if grad is not None and plain is not None:
            torch.testing.assert_close(grad, plain, rtol=0, atol=1e-12, msg=name)


@pytest.mark.behaviour
def test_the_text_towers_cost_follows_the_words(tiny_vit):
    text = TextConfig(context_length=77, vocab_size=600, width=64, layers=4, heads=4)
    model = CLIP(tiny_vit.model_copy(update={"text": text})).eval()

    def cost(*lengths: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.encode_text(captions([*lengths], 77))
        return counter.get_total_flops()

    assert cost(20, 20, 20) < 0.35 * cost(77, 77, 77)
    # One long caption does not make the others long.
    assert cost(77, 7, 7, 7) < 0.4 * cost(77, 77, 77, 77)


@pytest.mark.property
def test_the_seed_alone_decides_the_weights(tiny):
    torch.manual_seed(1)
    first = CLIP(tiny, seed=3).state_dict()
    torch.manual_seed(2)
    again, other = CLIP(tiny, seed=3).state_dict(), CLIP(tiny, seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name, t in first.items() if t.numel() > 1 and t.unique().numel() > 1]
    assert "visual.conv1.weight" in drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


@pytest.mark.golden
def test_transformers_start_as_the_paper_says():
    # Origin: openai/CLIP, clip/model.py, CLIP.initialize_parameters and VisionTransformer.
    config = zoo.config("ViT-nano/8")
    vision, text = config.vision, config.text
    state = CLIP(config).state_dict()
    text_std, image_std = text.width**-0.5, vision.width**-0.5
    expected = {
        "token_embedding.weight": 0.02,
        "positional_embedding": 0.01,
        "text_projection": text_std,
        "transformer.resblocks.1.attn.in_proj_weight": text_std,
        "transformer.resblocks.1.attn.out_proj.weight": text_std * (2 * text.layers) ** -0.5,
        "transformer.resblocks.1.mlp.c_fc.weight": (2 * text.width) ** -0.5,
        "transformer.resblocks.1.mlp.c_proj.weight": text_std * (2 * text.layers) ** -0.5,
        "visual.proj": image_std,
        "visual.class_embedding": image_std,
        "visual.positional_embedding": image_std,
    }
    for name, std in expected.items():
        error = 5 * std / math.sqrt(2 * state[name].numel())
        assert abs(state[name].std().item() - std) < error, name
        assert abs(state[name].mean().item()) < 5 * std / math.sqrt(state[name].numel()), name
    assert state["logit_scale"].item() == pytest.approx(math.log(1 / 0.07))
    for name, tensor in state.items():
        if name.endswith("bias"):
            assert not tensor.any(), name
        if ".ln_" in name and name.endswith("weight"):
            assert (tensor == 1).all(), name


@pytest.mark.golden
def test_residual_branches_of_a_resnet_start_at_nothing(tiny_resnet):
    # Origin: openai/CLIP, clip/model.py: bn3.weight is zeroed, attnpool drawn at width ** -0.5.
    visual = CLIP(tiny_resnet).visual
    assert isinstance(visual, ModifiedResNet)
    blocks = [module for module in visual.modules() if isinstance(module, Bottleneck)]
    assert len(blocks) == 5
    for block in blocks:
        assert not block.bn3.weight.any()
        assert (block.bn1.weight == 1).all()
    std = 128**-0.5
    assert visual.attnpool.q_proj.weight.std().item() == pytest.approx(std, rel=0.03)
    assert visual.attnpool.positional_embedding.std().item() == pytest.approx(std, rel=0.15)


@pytest.mark.behaviour
def test_wrong_sizes_are_refused_with_a_reason(tiny):
    model = CLIP(tiny)
    with pytest.raises(ConfigError, match=r"expected \(3, \d+, \d+\)"):
        model.encode_image(torch.zeros(2, 3, 64, 64))
    with pytest.raises(ConfigError, match="captions of 13 tokens for a context of 12"):
        model.encode_text(torch.zeros(2, 13, dtype=torch.int64))


@pytest.mark.golden
def test_the_temperature_is_clamped_at_a_hundred(tiny_vit):
    # Origin: paper section 2.5.
    model = CLIP(tiny_vit)
    with torch.no_grad():
        model.logit_scale.fill_(6.0)
    model.clamp_logit_scale()
    assert model.logit_scale.exp().item() == pytest.approx(100.0)
    with torch.no_grad():
        model.logit_scale.fill_(1.0)
    model.clamp_logit_scale()
    assert model.logit_scale.item() == 1.0
