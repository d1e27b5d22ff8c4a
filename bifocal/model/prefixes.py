"""Text features of many prompts that begin alike: what they share is read once.

Under a causal mask what a token becomes depends only on the tokens before it. The prompts of one
template are equal up to the class name, so their common beginning goes through the transformer
once, its keys and values are kept, and only what follows is computed for each prompt: the same
features as by reading every prompt whole, up to the rounding of sums. The plain twin is
`TextTransformer.read_text`.

Knows token ids and the text tower; knows nothing of classes or templates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bifocal.model.layers import ResidualAttentionBlock
from bifocal.model.text_transformer import TextTransformer

FEW = 256
"""Different prompts up to which sharing beginnings is not worth its bookkeeping."""

SHARED_BY = 16
"""Prompts that a beginning must have in common: reading it costs about as much as three prompts,
since one row alone leaves a processor waiting for weights."""
TOKENS = 2048
"""Tokens of a batch: enough for fast products, few enough to stay near the processor."""

Row = tuple[int, ...]
Memory = list[tuple[Tensor, Tensor]]
"""Keys and values of a beginning, "1 heads prefix head_width", of each block."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that begin with the same `shared` tokens."""

    shared: int
    rows: tuple[Row, ...]


def groups(rows: Sequence[Row]) -> Iterator[Group]:
    """Yield different rows, each in one group, so that long beginnings are shared by many.

    Args:
        rows: sorted, each once; none is the beginning of another.
    """
    shared = _common(rows[0], rows[-1])
    left: list[Row] = []
    for _, some in groupby(rows, key=lambda row: row[shared] if shared < len(row) else -1):
        alike = list(some)
        if len(alike) >= max(2, SHARED_BY):
            yield from groups(alike)
        else:
            left += alike
    if left:
        yield Group(min(shared, len(left[0]) - 1), tuple(left))


def _common(first: Row, last: Row) -> int:
    pairs = zip(first, last, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(last)))


@torch.no_grad()
def read_rows(
    tower: TextTransformer, rows: Sequence[Row], progress: Callable[[int], object] = lambda _: None
) -> Float[Tensor, "rows embed_dim"]:
    """Return text features, linearly projected, where the tower is: as `read_text` does.

    Args:
        tower: with its projection.
        rows: ids from start-of-text to end-of-text, within the context; rows may repeat.
        progress: told how many different rows are done, after every batch.
    """
    different = sorted(set(rows))
    place = {row: n for n, row in enumerate(different)}
    features = tower.text_projection.new_empty(len(different), tower.text_projection.shape[1])
    done = 0
    for group in groups(different) if different else ():
        start = group.rows[0][: group.shared]
        memory = _read_beginning(tower, start) if start else None
        for batch in _batches(group):
            features[[place[row] for row in batch]] = _read_rest(tower, batch, group.shared, memory)
            done += len(batch)
            progress(done)
    return features[[place[row] for row in rows]]


def _batches(group: Group) -> Iterator[list[Row]]:
    """Yield rows of about the same length, as many as make a batch."""
    batch: list[Row] = []
    for row in sorted(group.rows, key=len):
        if batch and (len(row) - group.shared) * (len(batch) + 1) > TOKENS:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def _read_beginning(tower: TextTransformer, start: Row) -> Memory:
    tokens = torch.tensor([start], device=tower.positional_embedding.device)
    return _through(tower, tokens, [len(start)], 0, None)[1]


def _read_rest(
    tower: TextTransformer, rows: Sequence[Row], shared: int, memory: Memory | None
) -> Float[Tensor, "rows embed_dim"]:
    rest = [torch.tensor(row[shared:]) for row in rows]
    tokens = pad_sequence(rest, batch_first=True).to(tower.positional_embedding.device)
    x, _ = _through(tower, tokens, [len(row) for row in rest], shared, memory)
    return tower.ln_final(x) @ tower.text_projection


def _through(
    tower: TextTransformer,
    tokens: Int[Tensor, "batch length"],
    lengths: Sequence[int],
    shared: int,
    memory: Memory | None,
) -> tuple[Float[Tensor, "batch width"], Memory]:
    """Return the residual stream at the last token of each row, and keys and values of all.

    Args:
        tower: reads.
        tokens: ids that follow `shared` others.
        lengths: of the rows.
        shared: number of tokens before.
        memory: of these.
    """
    length = tokens.shape[1]
    x = tower.token_embedding(tokens)
    x = x + tower.positional_embedding[shared : shared + length].to(x.dtype)
    own = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    seen = F.pad(own, (shared, 0), value=True)
    ends = torch.arange(len(x), device=x.device), torch.tensor(lengths, device=x.device) - 1
    kept: Memory = []
    last = len(tower.transformer.resblocks) - 1
    for number, block in enumerate(tower.transformer.resblocks):
        assert isinstance(block, ResidualAttentionBlock)
        q, k, v = _queries_keys_values(block, x)
        kept.append((k, v))
        if memory:
            k, v = (
                torch.cat([before.expand(len(x), -1, -1, -1), these], dim=2)
                for before, these in zip(memory[number], (k, v), strict=True)
            )
        if number == last:  # features are read from one token of each row
            q, x, seen = (
                q[ends[0], :, ends[1], None],
                x[ends][:, None],
                seen[ends[1]][:, None, None],
            )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + block.attn.out_proj(mixed.transpose(1, 2).flatten(-2))
        x = x + block.mlp(block.ln_2(x))
    return x[:, 0], kept


def _queries_keys_values(
    block: ResidualAttentionBlock, x: Float[Tensor, "batch length width"]
) -> Float[Tensor, "3 batch heads length head_width"]:
    attn = block.attn
    qkv = F.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)
    return qkv.unflatten(-1, (3, attn.heads, -1)).permute(2, 0, 3, 1, 4)
