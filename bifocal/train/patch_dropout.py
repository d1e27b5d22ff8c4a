"""Which patches of a picture a training step reads (Li et al. 2023, "FLIP", arXiv 2212.00794).

A pure function of the seed and the pair's place in the run, so that every split of a batch and
every second reading of a chunk leave out the same ones.
"""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Int
from torch import Tensor


def kept_patches(
    positions: Int[Tensor, " batch"], patches: int, dropout: float, seed: int
) -> Int[Tensor, "batch kept"]:
    """Return the patches of each picture that stay, in rising order.

    Args:
        positions: of the pairs in the run.
        patches: of a picture.
        dropout: share of them that is left out; at least one stays.
        seed: of the run.
    """
    kept = max(1, round(patches * (1 - dropout)))
    places = positions[:, None] * patches + torch.arange(patches, device=positions.device)
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    start = int.from_bytes(digest, "little", signed=True)
    order = _scrambled(places ^ start).argsort(dim=1, stable=True)
    return order[:, :kept].sort(dim=1).values


def _scrambled(numbers: Int[Tensor, "batch patches"]) -> Int[Tensor, "batch patches"]:
    """Return a one-to-one image of 64-bit numbers that looks random: SplitMix64's last steps.

    Steele et al. 2014, "Fast splittable pseudorandom number generators"; products wrap around.
    """
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        shifted = (numbers >> shift) & ((1 << (64 - shift)) - 1)
        numbers = (numbers ^ shifted) * factor
    return numbers
