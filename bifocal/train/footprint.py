"""What a training step holds in the memory of one device.

Two moments count: when the towers are differentiated, and when the loss compares all pairs. Where a
batch is one chunk its activations wait while the loss is computed; where it is several they do not
exist yet. Knows sizes and the rehearsal; runs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from bifocal.model.clip import TwoTowers
from bifocal.optim.statistics import STORAGES
from bifocal.precision import DTYPES
from bifocal.train.cost import Setup
from bifocal.train.rehearsal import Rehearsal, rehearse
from bifocal.train.sharding import is_block, units

FLOAT = 4
"""Bytes of a float32, in which losses are computed."""
TILES = 4
"""Tiles that a tiled loss holds at a time, and whole matrices that a plain one does."""
HEADROOM = 0.1
"""Share of a device's memory that is left to what a rehearsal cannot see: the driver, workspaces
of convolutions, and what the allocator wastes."""
SMALLEST = 2
"""Pairs of a chunk, which BatchNorm needs."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on one device."""

    weights: int
    """Parameters, buffers, and the average if there is one; of what is spread over the devices,
    this one's part, and what is put together at a time."""
    gradients: int
    statistics: int
    """AdamW's averages."""
    batch: int
    """Pictures in 8 bits, or their features, and token ids."""
    activations: int
    """Of one chunk, kept for its backward pass."""
    working: int
    """What operators need on top of activations and gradients for a moment, at the worst."""
    features: int
    """Of all pairs that the device compares, and their gradients."""
    loss: int
    """Tiles of the similarity matrix, or a plain loss's matrices."""
    plain_loss: int
    """The matrices of a plain loss, whichever is computed."""
    reading: int
    """Held at once while a chunk is differentiated."""
    comparing: int
    """Held at once while the loss is computed."""

    @property
    def peak(self) -> int:
        """Held at the worst moment of a step."""
        return max(self.reading, self.comparing)


def footprint(setup: Setup) -> Footprint:
    """Return what a step holds."""
    several = setup.chunks > 1
    rehearsed = rehearse(setup.towers, setup.chunk, again=several)
    weights, gradients, statistics = _resident(setup)
    with torch.device("meta"):
        images, tokens, _ = setup.towers.inputs(setup.local)
    batch = images.nbytes + tokens.nbytes
    rows, columns, embed_dim = setup.local, setup.batch_size, setup.towers.model.embed_dim
    own, compared = _features(setup, rehearsed)
    plain = TILES * FLOAT * columns**2
    loss = plain
    if setup.tile:
        loss = TILES * FLOAT * min(rows, setup.tile) * min(columns, setup.tile)
    always = weights + statistics + batch
    returned = 2 * rows * embed_dim * FLOAT
    reading = always + rehearsed.peak + returned + (own + gradients if several else 0)
    waiting = own if several else rehearsed.activations
    return Footprint(
        weights=weights,
        gradients=gradients,
        statistics=statistics,
        batch=batch,
        activations=rehearsed.activations,
        working=max(0, rehearsed.peak - rehearsed.activations - rehearsed.gradients),
        features=own + compared,
        loss=loss,
        plain_loss=plain,
        reading=reading,
        comparing=always + waiting + compared + loss,
    )


def largest_chunk(setup: Setup, memory: float) -> int | None:
    """Return the largest chunk with which a step fits, or None where no chunk does.

    Args:
        setup: the run; its own chunk size does not count.
        memory: bytes of a device, of which a share stays free (HEADROOM).
    """

    limit = memory * (1 - HEADROOM)

    def excess(chunk: int) -> float:
        return footprint(replace(setup, chunk_size=chunk)).peak - limit

    found = {setup.local: excess(setup.local)}
    if found[setup.local] <= 0:
        return setup.local
    fits, exceeds, guess = SMALLEST - 1, setup.local, SMALLEST
    while exceeds - fits > 1:
        found[guess] = excess(guess)
        fits, exceeds = (guess, exceeds) if found[guess] <= 0 else (fits, guess)
        (first, at_first), (second, at_second) = list(found.items())[-2:]
        slope = (at_second - at_first) / (second - first)
        # Memory grows in a straight line, but for chunks beside which a loss holds more.
        guess = int(second - at_second / slope) if slope > 0 else (fits + exceeds) // 2
        guess = min(max(guess, fits + 1), exceeds - 1)
    return fits if fits >= SMALLEST else None


def _resident(setup: Setup) -> tuple[int, int, int]:
    """Return bytes of weights, gradients and statistics."""
    with torch.device("meta"):
        model = setup.towers.build()
    spread = {p for matrices in units(model).values() for p in matrices} if setup.shard else set()
    shares = {p: setup.devices if p in spread else 1 for p in model.parameters()}
    state = {**shares, **dict.fromkeys(model.buffers(), 1)}
    weights = sum(math.ceil(tensor.nbytes / share) for tensor, share in state.items())
    if setup.average:
        weights += sum(math.ceil(tensor.numel() * FLOAT / n) for tensor, n in state.items())
    trained = {p: share for p, share in shares.items() if p.requires_grad}
    short = STORAGES[setup.statistics].dtype.itemsize
    statistics = sum(
        math.ceil(2 * p.numel() * (short if p.ndim >= 2 else FLOAT) / share)
        for p, share in trained.items()
    )
    gradients = sum(math.ceil(p.nbytes / share) for p, share in trained.items())
    if setup.shard and setup.devices > 1:
        weights, gradients = weights + _together(setup, model), gradients + _largest(setup, model)
    return weights, gradients, statistics


def _together(setup: Setup, model: TwoTowers) -> int:
    """Return bytes of spread weights that are whole at a time: two blocks, and all around them."""
    computed = DTYPES[setup.towers.precision].itemsize
    around = [
        sum(p.numel() for p in matrices) * (FLOAT if module is model.token_embedding else computed)
        for module, matrices in units(model).items()
        if not is_block(module)
    ]
    return sum(around) + 2 * _largest(setup, model)


def _largest(setup: Setup, model: TwoTowers) -> int:
    """Return the bytes of the largest block's matrices, in the precision of the towers."""
    blocks = [
        sum(p.numel() for p in own) for module, own in units(model).items() if is_block(module)
    ]
    return max(blocks, default=0) * DTYPES[setup.towers.precision].itemsize


def _features(setup: Setup, rehearsed: Rehearsal) -> tuple[int, int]:
    """Return bytes of this device's features, and of all that comparing them adds."""
    width = setup.towers.model.embed_dim
    rows, columns = setup.local * width * FLOAT, setup.batch_size * width * FLOAT
    own = 2 * setup.local * width * rehearsed.feature_bytes
    in_full = 2 * rows if rehearsed.feature_bytes < FLOAT else 0
    gathered = columns if setup.devices > 1 else 0
    if not setup.tile:  # a plain loss gathers and differentiates both
        return own, in_full + 2 * (gathered + columns)
    return own, in_full + gathered + rows + columns
