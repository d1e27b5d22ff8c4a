"""The transformer that both towers share: attention, activation, residual blocks.

Pre-norm blocks after GPT-2 (Radford et al. 2019); parameter names are OpenAI's, so that published
state dicts load as they are. Knows nothing of pictures, tokens or losses.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bifocal.model.config import Activation
from bifocal.model.packing import Packed


def look_up(
    ids: Int[Tensor, "*ids"], table: Float[Tensor, "rows width"]
) -> Float[Tensor, "*ids width"]:
    """Return rows of a table, in its dtype.

    A row may be used thousands of times. The gradients of its uses are added up in float32 or
    better, and rounded once: in bfloat16 a sum stands still when it is 256 times its terms.
    """
    wide = torch.promote_types(table.dtype, torch.float32)
    return F.embedding(ids, table.to(wide)).to(table.dtype)


class TokenEmbedding(nn.Embedding):
    """A row of numbers for every token id."""

    def forward(self, input: Int[Tensor, "*ids"]) -> Float[Tensor, "*ids width"]:
        """Return the rows of some ids; see `look_up`."""
        return look_up(input, self.weight)


class QuickGELU(nn.Module):
    """x · σ(1.702 x), the cheaper stand-in for GELU that the published models use."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the activation, computed through the fused SiLU: silu(1.702 x) / 1.702."""
        return F.silu(x * 1.702) * (1 / 1.702)


def activation_module(name: Activation) -> nn.Module:
    """Return the module for an activation's name."""
    match name:
        case "quick_gelu":
            return QuickGELU()
        case "gelu":
            return nn.GELU()


class MultiheadAttention(nn.Module):
    """Self-attention with one matrix for queries, keys and values.

    Args:
        width: channels of the residual stream.
        heads: number of heads; each is width / heads wide.
        causal: whether a token sees only itself and those before it.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "*tokens width"], packed: Packed | None = None, *, one: bool = False
    ) -> Float[Tensor, "*mixed width"]:
        """Return softmax(q kᵀ / √d) v, projected; see `ResidualAttentionBlock`."""
        if one:
            return self._of_one(x, packed)
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        if packed:
            qkv = packed.spread(qkv)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        mixed = mixed.transpose(1, 2).flatten(-2)
        return self.out_proj(packed.collect(mixed) if packed else mixed)

    def _of_one(
        self, x: Float[Tensor, "*tokens width"], packed: Packed | None
    ) -> Float[Tensor, "batch width"]:
        assert packed or not self.causal, "the first token of a row would see itself alone"
        sizes = (x.shape[-1], 2 * x.shape[-1])
        of_query, of_others = self.in_proj_weight.split(sizes)
        query_bias, other_bias = self.in_proj_bias.split(sizes)
        q = F.linear(read_token(x, packed), of_query, query_bias).unflatten(-1, (self.heads, -1))
        kv = F.linear(x, of_others, other_bias)
        if packed:
            kv = packed.spread(kv)
        k, v = kv.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # Its last token sees all of a packed sequence, but not the padding of the grid.
        seen = packed.taken[:, None, None] if packed else None
        mixed = F.scaled_dot_product_attention(q[:, :, None], k, v, attn_mask=seen)
        return self.out_proj(mixed.flatten(1))


def read_token(
    x: Float[Tensor, "*tokens width"], packed: Packed | None
) -> Float[Tensor, "batch width"]:
    """Return the token of each sequence that features are read from.

    That is the last one of a packed sequence, a text, and the first of a row, a picture.
    """
    return x[packed.ends] if packed else x[:, 0]


class ResidualAttentionBlock(nn.Module):
    """x + attn(ln_1(x)), then x + mlp(ln_2(x)).

    Args:
        width: channels of the residual stream.
        heads: of the attention.
        causal: whether a token sees only itself and those before it.
        activation: between the two matrices of the mlp.
    """

    def __init__(self, width: int, heads: int, causal: bool, activation: Activation) -> None:
        super().__init__()
        self.attn = MultiheadAttention(width, heads, causal)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, 4 * width),
                gelu=activation_module(activation),
                c_proj=nn.Linear(4 * width, width),
            )
        )
        self.ln_2 = nn.LayerNorm(width)

    def forward(
        self, x: Float[Tensor, "*tokens width"], packed: Packed | None = None, *, one: bool = False
    ) -> Float[Tensor, "*mixed width"]:
        """Return the residual stream after one block.

        Args:
            x: "batch length width"; or "tokens width" where sequences are packed.
            packed: where packed sequences lie.
            one: whether only the token of each sequence that features are read from is wanted (see
                `read_token`). All others are keys and values for it, and are not mixed themselves.

        Returns:
            the shape of x; "batch width" of one token each.
        """
        mixed = self.attn(self.ln_1(x), packed, one=one)
        x = (read_token(x, packed) if one else x) + mixed
        return x + self.mlp(self.ln_2(x))


def through_block(block: nn.Module, x: Tensor, *, checkpointing: bool, **options: Any) -> Tensor:
    """Return what a block makes of `x`.

    Args:
        block: draws no random numbers.
        x: its input.
        checkpointing: keep only that, and compute the rest again for the gradients (Chen et al.
            2016, arXiv 1604.06174; Griewank & Walther 2000, the paper's reference).
        options: further arguments of the block.
    """
    if not (checkpointing and torch.is_grad_enabled()):
        return block(x, **options)
    return checkpoint(block, x, use_reentrant=False, preserve_rng_state=False, **options)


class Transformer(nn.Module):
    """A stack of residual attention blocks."""

    checkpointing = False
    """Whether activations inside a block are computed again for its gradients, and not kept."""

    def __init__(
        self, width: int, layers: int, heads: int, *, causal: bool, activation: Activation
    ) -> None:
        super().__init__()
        self.width = width
        self.resblocks = nn.Sequential(
            *(ResidualAttentionBlock(width, heads, causal, activation) for _ in range(layers))
        )

    def forward(
        self, x: Float[Tensor, "*tokens width"], packed: Packed | None = None, *, one: bool = False
    ) -> Float[Tensor, "*mixed width"]:
        """Return the residual stream after all blocks; see `ResidualAttentionBlock.forward`."""
        last = len(self.resblocks) - 1
        for number, block in enumerate(self.resblocks):
            options = {"packed": packed, "one": one and number == last}
            x = through_block(block, x, checkpointing=self.checkpointing, **options)
        return x

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw weights as the paper's text tower does: residual outputs shrink with depth."""
        in_std = self.width**-0.5
        out_std = in_std * (2 * len(self.resblocks)) ** -0.5
        for block in self.resblocks.children():
            assert isinstance(block, ResidualAttentionBlock)
            fc_in, _, fc_out = block.mlp.children()
            assert isinstance(fc_in, nn.Linear)
            assert isinstance(fc_out, nn.Linear)
            nn.init.normal_(block.attn.in_proj_weight, std=in_std, generator=generator)
            nn.init.normal_(block.attn.out_proj.weight, std=out_std, generator=generator)
            nn.init.normal_(fc_in.weight, std=(2 * self.width) ** -0.5, generator=generator)
            nn.init.normal_(fc_out.weight, std=out_std, generator=generator)
            for bias in (
                block.attn.in_proj_bias,
                block.attn.out_proj.bias,
                fc_in.bias,
                fc_out.bias,
            ):
                nn.init.zeros_(bias)
            block.ln_1.reset_parameters()
            block.ln_2.reset_parameters()
