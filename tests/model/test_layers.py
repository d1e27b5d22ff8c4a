"""Layers against plain arithmetic and against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bifocal.model.layers import MultiheadAttention, QuickGELU, ResidualAttentionBlock
from bifocal.model.modified_resnet import AttentionPool2d, Bottleneck


@pytest.mark.golden
def test_quick_gelu_is_the_sigmoid_form():
    x = torch.linspace(-8, 8, 401, dtype=torch.float64)
    torch.testing.assert_close(QuickGELU()(x), x * torch.sigmoid(1.702 * x))


def plain_attention(layer: MultiheadAttention, x: Tensor) -> Tensor:
    """Attention head by head, with the whole matrix."""
    length, width = x.shape[1:]
    q, k, v = (x @ layer.in_proj_weight.T + layer.in_proj_bias).split(width, dim=-1)
    heads = []
    size = width // layer.heads
    for n in range(layer.heads):
        part = slice(n * size, (n + 1) * size)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / size**0.5
        if layer.causal:
            later = torch.ones(length, length).triu(1).bool()
            scores = scores.masked_fill(later, float("-inf"))
        heads.append(scores.softmax(-1) @ v[..., part])
    return torch.cat(heads, -1) @ layer.out_proj.weight.T + layer.out_proj.bias


@pytest.mark.parity
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_plain_softmax_attention(causal):
    layer = MultiheadAttention(12, 3, causal)
    nn.init.normal_(layer.in_proj_weight)
    nn.init.normal_(layer.in_proj_bias)
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(layer(x), plain_attention(layer, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parity
def test_a_block_is_torchs_pre_norm_encoder_layer():
    block = ResidualAttentionBlock(12, 3, causal=False, activation="gelu")
    peer = nn.TransformerEncoderLayer(
        12, 3, 48, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    names = {
        "attn.": "self_attn.",
        "ln_1": "norm1",
        "ln_2": "norm2",
        "mlp.c_fc": "linear1",
        "mlp.c_proj": "linear2",
    }
    state = block.state_dict()
    for ours, theirs in names.items():
        state = {name.replace(ours, theirs): tensor for name, tensor in state.items()}
    peer.load_state_dict(state)
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(block(x), peer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parity
def test_attention_pooling_is_torchs_multi_head_attention():
    pool = AttentionPool2d(3, width=16, heads=4, embed_dim=6)
    for parameter in pool.parameters():
        nn.init.normal_(parameter)
    features = torch.randn(2, 16, 3, 3)
    x = features.flatten(2).permute(2, 0, 1)
    x = torch.cat([x.mean(dim=0, keepdim=True), x]) + pool.positional_embedding[:, None]
    expected, _ = F.multi_head_attention_forward(
        query=x[:1],
        key=x,
        value=x,
        embed_dim_to_check=16,
        num_heads=4,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
        need_weights=False,
    )
    torch.testing.assert_close(pool(features), expected[0], rtol=1e-4, atol=1e-4)


@pytest.mark.behaviour
def test_a_strided_bottleneck_sees_every_pixel():
    # An ordinary strided convolution of the shortcut would skip three pixels of four (Zhang 2019).
    block = Bottleneck(4, 2, stride=2).eval()
    x = torch.randn(1, 4, 6, 6, requires_grad=True)
    assert block.downsample is not None
    shortcut = block.downsample(x)
    assert shortcut.shape == (1, 8, 3, 3)
    shortcut.square().sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()
    assert block(x).shape == (1, 8, 3, 3)
