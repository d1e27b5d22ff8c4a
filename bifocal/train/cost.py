"""What a training run costs in parameters, operations and time, before anything is bought.

FLOPs are those of the model, 2 a multiply-add, as papers count them: attention in full although
half of a causal one is masked, and nothing for normalisation, activations and the optimizer.
Knows sizes; runs nothing. Memory: see footprint.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from bifocal.errors import ConfigError
from bifocal.loss.tiled import SIDE, side_of
from bifocal.optim.statistics import Statistics
from bifocal.train.config import RunConfig
from bifocal.train.rehearsal import DeviceType, Towers

SECONDS_A_DAY = 86_400
BLOCKS = (
    "VisionTransformer.transformer",
    *(f"ModifiedResNet.layer{stage}" for stage in (1, 2, 3, 4)),
    "Transformer",
)
"""Modules, by the counter's names, inside which gradient checkpointing reads again: those of an
image tower, and the text tower's, which stands at the root of its model."""
LAST_MATRIX = ".mlp.c_proj"


@dataclass(frozen=True, slots=True)
class Setup:
    """All that the cost of a step follows from.

    Args:
        towers: what is trained.
        batch_size: pairs of a step, over all devices.
        devices: that share them evenly.
        chunk_size: pairs that a device reads at a time; 0 for its whole part.
        statistics: how AdamW's averages are stored.
        form: which loss.
        tile: side of the loss's tiles; 0 for the plain loss.
        average: whether an average of the weights is kept.
        shard: whether matrices, their gradients and averages are spread over the devices.

    Raises:
        ConfigError: the batch does not divide, or captions do not fit.
    """

    towers: Towers
    batch_size: int
    devices: int = 1
    chunk_size: int = 0
    statistics: Statistics = "float32"
    form: Literal["softmax", "sigmoid"] = "softmax"
    tile: int = SIDE
    average: bool = False
    shard: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.devices < 1 or self.batch_size % self.devices:
            raise ConfigError(
                f"a batch of {self.batch_size} pairs does not divide among {self.devices} "
                "devices: each of them reads as many"
            )
        length, context = self.towers.length, self.towers.model.text.context_length
        if not 1 <= length <= context:
            raise ConfigError(
                f"captions of {length} tokens for a context of {context}: give 1 to {context}"
            )

    @property
    def local(self) -> int:
        """Pairs of a device."""
        return self.batch_size // self.devices

    @property
    def chunk(self) -> int:
        """Pairs that a device reads at a time."""
        return min(self.chunk_size or self.local, self.local)

    @property
    def chunks(self) -> int:
        """Parts in which a device reads its pairs."""
        return -(-self.local // self.chunk)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of parameters."""

    image: int
    text: int
    """Of the text tower, with the temperature and perhaps a bias."""

    @property
    def total(self) -> int:
        """Of the whole model."""
        return self.image + self.text


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of a step for one pair."""

    image: int
    """Of one forward pass of the image tower."""
    text: int
    """Of one forward pass of the text tower."""
    backward: int
    """Twice the forward passes of the towers that are trained."""
    cached: int
    """Of features alone, where there are several chunks: one more forward pass."""
    recomputed: int
    """Of blocks that gradient checkpointing reads once more, but for their last matrix."""
    loss: int
    """Of similarities and their gradients."""

    @property
    def useful(self) -> int:
        """Of the towers, with nothing repeated."""
        return self.image + self.text + self.backward

    @property
    def total(self) -> int:
        """Of everything."""
        return self.useful + self.cached + self.recomputed + self.loss


def setup_of(
    config: RunConfig, *, devices: int = 1, length: int | None = None, device: DeviceType = "cpu"
) -> Setup:
    """Return what the cost of a step of a run follows from.

    Args:
        config: the run.
        devices: that share its batch.
        length: tokens of a caption, on average; None for the whole context.
        device: by whose rules autocast goes.

    Raises:
        ConfigError: the batch does not divide, or captions do not fit.
    """
    train, optim, context = config.train, config.optim, config.model.text.context_length
    if config.model.objective != "contrastive":
        raise ConfigError(
            f"costs are known of contrastive losses, not of loss.form={config.loss.form}: plan "
            "with softmax, whose towers are the same"
        )
    towers = Towers(
        model=config.model,
        length=context if length is None else length,
        precision=train.precision,
        image_weights=optim.image_weights,
        text_weights=optim.text_weights,
        gradient_checkpointing=train.gradient_checkpointing,
        patch_dropout=train.patch_dropout,
        lock=train.lock,
        stored_images=bool(config.data.image_features),
        device=device,
    )
    return Setup(
        towers=towers,
        batch_size=config.data.batch_size,
        devices=devices,
        chunk_size=train.chunk_size,
        statistics=optim.statistics,
        form="sigmoid" if config.loss.form == "sigmoid" else "softmax",
        tile=side_of(torch.device(device)) if config.loss.tile is None else config.loss.tile,
        average=bool(optim.average_decay),
        shard=train.shard,
    )


def parameters(towers: Towers) -> Parameters:
    """Count parameters by tower."""
    with torch.device("meta"):
        model = towers.build()
    image = sum(p.numel() for p in model.tower_parameters("image"))
    return Parameters(image, sum(p.numel() for p in model.parameters()) - image)


def flops(setup: Setup) -> Flops:
    """Count the operations of a step for one pair."""
    towers = setup.towers
    with torch.device("meta"):
        model = towers.build().float().eval()
        images, tokens, kept = towers.inputs(1)
    image, image_again = 0, 0
    if not towers.stored_images:
        image, image_again = _forward(lambda: model.encode_image(images.float(), kept))
    text, text_again = _forward(lambda: model.encode_text(tokens))
    trained = {"image": (0, 1), "text": (1, 0), None: (1, 1)}[towers.lock]
    checkpointing = towers.gradient_checkpointing
    # Tiled, a device compares its own pictures with all texts, softmax twice; plain, every one all
    # with all.
    tiled = 8 if setup.form == "softmax" else 6
    compared = tiled if setup.tile else 6 * setup.devices
    return Flops(
        image=image,
        text=text,
        backward=2 * (trained[0] * image + trained[1] * text),
        cached=image + text if setup.chunks > 1 else 0,
        recomputed=checkpointing * (trained[0] * image_again + trained[1] * text_again),
        loss=compared * setup.batch_size * towers.model.embed_dim,
    )


def pairs_per_second(setup: Setup, flops: Flops, rate: float) -> float:
    """Return the pairs that all devices together read in a second.

    Args:
        setup: the run.
        flops: of one pair.
        rate: operations a second that a device achieves, repeated ones counted.
    """
    return rate * setup.devices / flops.total


def days(pairs: float, pairs_per_second: float) -> float:
    """Return how many days the pairs take."""
    return pairs / pairs_per_second / SECONDS_A_DAY


def _forward(read: Callable[[], object]) -> tuple[int, int]:
    """Return the operations of a forward pass, and of what checkpointing repeats.

    Nothing but the sum that ends a block reads its last matrix, so that torch does not repeat it.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        read()
    counts = counter.get_flop_counts()
    blocks = sum(sum(c.values()) for name, c in counts.items() if name in BLOCKS)
    last = sum(sum(c.values()) for name, c in counts.items() if name.endswith(LAST_MATRIX))
    return counter.get_total_flops(), blocks - last
