"""Everything that a run carries from one step to the next."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from bifocal.data.loader import Loader, Samples, Skips
from bifocal.data.mixed_plan import plan_of
from bifocal.data.sample import Source
from bifocal.errors import ConfigError
from bifocal.inputs.preprocess import Preprocess, random_crop, shorter_side
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.model.build import build_model
from bifocal.model.clip import TwoTowers
from bifocal.model.config import ModifiedResNetConfig
from bifocal.model.modified_resnet import ModifiedResNet
from bifocal.optim.adamw import AdamW
from bifocal.optim.average import Average
from bifocal.optim.groups import adamw, store_matrices
from bifocal.optim.scaler import LossScaler
from bifocal.optim.schedule import WarmupCosine
from bifocal.optim.spread import is_spread
from bifocal.precision import DTYPES
from bifocal.pretrained import Pretrained, in_full
from bifocal.train.config import RunConfig
from bifocal.train.sharding import shard, whole_state
from bifocal.types import Cursor
from bifocal.world import World


@dataclass
class Run:
    """A run in memory; `step` and `cursor` say how far it has come."""

    config: RunConfig
    model: TwoTowers
    optimizer: AdamW
    tokenizer: Tokenizer
    preprocess: Preprocess
    source: Source
    world: World
    schedule: WarmupCosine
    skips: Skips
    cursor: Cursor
    step: int = 0
    rejected: int = 0
    """Steps in a row, up to now, whose loss or gradient was not finite."""
    updates: int = 0
    """Steps that were applied."""
    average: Average | None = None
    """Of the weights over the steps, if the settings ask for one."""
    scaler: LossScaler | None = None
    """Of the gradients, if the towers compute in float16."""

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.schedule.total

    @property
    def pretrained(self) -> Pretrained:
        """The model as an artifact; shares the weights, which must not be spread."""
        return Pretrained(self.model, self.tokenizer, self.preprocess)

    def whole(self) -> Run:
        """Return the run with its model put together; itself where the model is not spread.

        A collective call; only the leading process gets what it asks for.
        """
        if not any(map(is_spread, self.model.parameters())):
            return self
        state = whole_state(self.model, keep=self.world.leads)
        return self._with(state) if self.world.leads else self

    def for_evaluation(self) -> Run:
        """Return the run as it is measured and saved: weights averaged, in float32, in eval mode.

        Where weights are neither averaged, stored in 16 bits nor spread, it shares them. A
        collective call; only the leading process gets what it asks for.
        """
        leads = self.world.leads
        if self.average is not None and self.updates:
            state = self.average.weights(keep=leads)
        else:
            run = self.whole()
            if all(p.dtype == torch.float32 for p in run.model.parameters()):
                run.model.eval()
                return run
            state = run.model.state_dict()
        return self._with({n: in_full(t) for n, t in state.items()}) if leads else self

    def _with(self, state: Mapping[str, Tensor]) -> Run:
        with torch.device("meta"):
            model = build_model(self.config.model)
        model.load_state_dict(state, assign=True)
        return replace(self, model=model.eval())

    def loader(self) -> Loader:
        """Return the training batches from where the run stands."""
        config, size = self.config, self.preprocess.image_size
        least = partial(shorter_side, size, config.augment)
        samples = Samples(
            self.source,
            plan_of(self.source, config.seed),
            self.tokenizer,
            lambda image, draw: random_crop(image, size, config.augment, draw),
            self.skips,
            least if config.data.decoding == "fast" else None,
        )
        return Loader(
            samples,
            config.data.batch_size,
            world=self.world,
            threads=config.data.threads,
            position=self.cursor.position,
        )


def new_run(config: RunConfig, source: Source, tokenizer: Tokenizer, world: World) -> Run:
    """Return a run at step 0, its weights drawn from the seed.

    Raises:
        ConfigError: the vocabulary does not fit the model's.
    """
    if tokenizer.vocab_size != config.model.text.vocab_size:
        raise ConfigError(
            f"the vocabulary has {tokenizer.vocab_size} ids, the model reads "
            f"{config.model.text.vocab_size}: set model.text.vocab_size={tokenizer.vocab_size}"
        )
    _check_chunks(config, world)
    model = build_model(config.model, config.seed).to(world.device)
    if isinstance(model.visual, ModifiedResNet):
        lay_channels_last(model.visual)
    model.set_gradient_checkpointing(config.train.gradient_checkpointing)
    if config.train.compile:
        check_compiler()
        model.compile_blocks()
    if config.train.lock:
        model.lock(config.train.lock)
    model.logit_scale.requires_grad_(config.loss.learn_temperature)
    optim = config.optim
    store_matrices(model.tower_parameters("image"), DTYPES[optim.image_weights])
    store_matrices(model.tower_parameters("text"), DTYPES[optim.text_weights])
    if config.train.shard:
        shard(model, world, config.train.precision)
    return Run(
        config=config,
        model=model.train(),
        optimizer=_optimizer(model, config),
        average=Average(model, optim.average_decay) if optim.average_decay else None,
        scaler=LossScaler() if config.train.precision == "float16" else None,
        tokenizer=tokenizer,
        preprocess=preprocess_of(config),
        source=source,
        world=world,
        schedule=WarmupCosine(optim.lr, optim.warmup_steps, steps_of(config, len(source))),
        skips=Skips(config.data.max_bad),
        cursor=Cursor(0, source.identity),
    )


def preprocess_of(config: RunConfig) -> Preprocess:
    """Return what evaluation of a run's model does to a picture."""
    size, channels = config.model.vision.image_size, config.normalize
    return Preprocess(image_size=size, mean=channels.mean, std=channels.std)


def _check_chunks(config: RunConfig, world: World) -> None:
    """Look for a chunk of one pair, of which BatchNorm would make nothing.

    Raises:
        ConfigError: there is one.
    """
    normalises = isinstance(config.model.vision, ModifiedResNetConfig)
    if not normalises or config.train.lock == "image":
        return
    local = config.data.batch_size // world.size
    if local // math.ceil(local / (config.train.chunk_size or local)) < 2:
        raise ConfigError(
            f"{local} pairs of a process in chunks of at most {config.train.chunk_size or local} "
            "leave one alone, and BatchNorm nothing to normalise: set another train.chunk_size or "
            "data.batch_size"
        )


def _optimizer(model: TwoTowers, config: RunConfig) -> AdamW:
    optim = config.optim
    optimizer = adamw(
        model,
        weight_decay=optim.weight_decay,
        beta1=optim.beta1,
        beta2=optim.beta2,
        eps=optim.eps,
        statistics=optim.statistics,
        max_update_rms=optim.max_update_rms,
    )
    if config.train.compile:
        optimizer.compile()
    return optimizer


def check_compiler() -> None:
    """Look for what torch.compile translates with.

    Raises:
        ConfigError: there is no C++ compiler.
    """
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++", "cl"))):
        raise ConfigError(
            "train.compile needs a C++ compiler, and g++, clang++ and $CXX are not to be found: "
            "install one, or leave train.compile out"
        )


def lay_channels_last(module: nn.Module) -> None:
    """Store the kernels of convolutions channels last, which convolutions on every device like."""
    module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def steps_of(config: RunConfig, samples: int) -> int:
    """Return the steps of a run over data of so many samples."""
    if config.train.steps is not None:
        return config.train.steps
    assert config.train.epochs is not None
    return max(1, math.ceil(config.train.epochs * samples / config.data.batch_size))
