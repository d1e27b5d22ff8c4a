"""From settings to a run: opens the data, learns or reads the vocabulary, finds a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from bifocal.data.mixed_plan import plan_of
from bifocal.data.sample import Source
from bifocal.data.sources import Reading, open_source
from bifocal.embed import Embedded
from bifocal.errors import CheckpointError, ConfigError, DataError
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.inputs.vocabulary import train_tokenizer
from bifocal.model.resize import fitted_state
from bifocal.pretrained import TOKENIZER, check_state, find_model, load, read_weights
from bifocal.settings import build
from bifocal.train import best, checkpoint
from bifocal.train.config import RunConfig
from bifocal.train.sharding import load_whole
from bifocal.train.state import Run, new_run
from bifocal.train.stored_features import FeatureSource, check_reads_alike
from bifocal.world import World

FREE_TO_CHANGE = (
    "out",
    "data.root",
    "data.threads",
    "data.cache_dir",
    "data.cache_gb",
    "data.store_timeout",
    "data.max_bad",
    "loss.tile",
    "train.device",
    "train.chunk_size",
    "train.gradient_checkpointing",
    "train.shard",
    "train.compile",
    "train.deterministic",
    "train.max_rejected",
    "train.checkpoint_every",
    "train.keep_last",
    "train.keep_best",
    "train.evaluate_every",
    "train.log_every",
    "evaluate",
)
"""Settings that a resumed run may change. The weights do not depend on them, or, of those that say
how a batch is split, by rounding alone (and through BatchNorm, whose statistics are a chunk's)."""


def prepare(config: RunConfig, world: World, say: Callable[[str], None]) -> Run:
    """Return the run that `config` describes: new, or as its newest whole checkpoint left it.

    Args:
        config: the resolved settings.
        world: rank and device.
        say: is told what the user should know.

    Raises:
        ConfigError, DataError: a setting or the data cannot be used.
        CheckpointError: `out` holds a run with other settings or other data.
    """
    out = Path(config.out)
    best.check_metric(config)
    source = open_training(config)
    folder = checkpoint.latest(out, say)
    best.best(out, say)
    if folder is None:
        tokenizer = find_tokenizer(config, source)
        config = with_vocabulary(config, tokenizer)
        if (out / best.BEST).exists():
            _check_same(config, out / best.BEST)
        run = new_run(config, source, tokenizer, world)
        if config.init:
            start_from(run, find_model(Path(config.init)))
        _check_together(run)
        warmup, last = run.schedule.warmup, run.schedule(run.total_steps - 1)
        if warmup > run.total_steps:
            say(
                f"the run ends at step {run.total_steps:,}, inside its warm-up of {warmup:,} "
                f"steps, at a rate of {last:.3g} of {config.optim.lr:.3g}: set optim.warmup_steps"
            )
        return run
    tokenizer = Tokenizer.load(folder / TOKENIZER)
    config = with_vocabulary(config, tokenizer)
    _check_same(config, folder)
    run = new_run(config, source, tokenizer, world)
    checkpoint.restore(run, folder)
    _check_together(run)
    say(f"resumed {folder} at step {run.step} of {run.total_steps}")
    return run


def _check_together(run: Run) -> None:
    """Compare where the processes stand: one that sees another folder would train on by itself.

    Raises:
        CheckpointError: they stand in different places.
    """
    place = f"{run.updates} {run.rejected} {run.cursor}".encode()
    digest = int.from_bytes(hashlib.blake2b(place, digest_size=7).digest(), "little")
    here = torch.tensor([[run.step, digest]], device=run.world.device)
    places = run.world.gather(here).tolist()
    if any(other != places[0] for other in places):
        steps = ", ".join(str(step) for step, _ in places)
        raise CheckpointError(
            f"the processes do not stand in one place of the run, but at the steps {steps}: "
            f"all of them must see the same files in out={run.config.out} and the same data"
        )


def start_from(run: Run, folder: Path) -> None:
    """Give the run the weights of the model in `folder`, fitted to its sizes.

    Raises:
        ConfigError, CheckpointError: they are of another architecture.
    """
    state = fitted_state(read_weights(folder), run.model)
    check_state(run.model, state, folder)
    load_whole(run.model, state)


def reading(config: RunConfig, templates: tuple[str, ...] = (), classes: str = "") -> Reading:
    """Return how the run reads a source."""
    data = config.data
    return Reading(
        root=config.data_root,
        classes=classes,
        templates=templates,
        image_column=data.image_column,
        caption_column=data.caption_column,
        seed=config.seed,
        image_size=config.model.vision.image_size,
        cache_dir=data.cache_dir,
        cache_gb=data.cache_gb,
        store_timeout=data.store_timeout,
    )


def open_training(config: RunConfig) -> Source:
    """Return the training pairs, with features in place of pictures if the settings say so.

    Raises:
        ConfigError, DataError: the data cannot be used, or the model reads pictures in another way
            than that of the features.
        CheckpointError: the features are of another model or of other data.
    """
    data = config.data
    source = open_source(data.train, reading(config, data.templates, data.classes))
    if not data.image_features:
        return source
    embedded = Embedded.open(config.data_root / Path(data.image_features).expanduser())
    pictures = open_source(data.train, reading(config, classes=data.classes))
    start = load(config.init)
    check_reads_alike(config, start)
    return FeatureSource(source, pictures, embedded, start)


def open_validation(config: RunConfig) -> Source | None:
    """Return the held-out pairs, if the settings name any."""
    data = config.data
    if not data.val:
        return None
    return open_source(data.val, reading(config, data.templates, data.classes))


def find_tokenizer(config: RunConfig, source: Source) -> Tokenizer:
    """Return the vocabulary at `tokenizer.path`, of `init`, or one learned from the captions.

    Raises:
        ConfigError: `init` and `tokenizer.path` both give one.
    """
    text = config.model.text
    if config.init:
        if config.tokenizer.path:
            raise ConfigError("init brings its own vocabulary: leave tokenizer.path out")
        return Tokenizer.load(find_model(Path(config.init)) / TOKENIZER, text.context_length)
    if config.tokenizer.path:
        path = config.data_root / Path(config.tokenizer.path).expanduser()
        return Tokenizer.load(path, text.context_length)
    captions = _captions(source, config)
    return train_tokenizer(captions, text.vocab_size, text.context_length)


def with_vocabulary(config: RunConfig, tokenizer: Tokenizer) -> RunConfig:
    """Return the settings with the vocabulary's true size."""
    text = config.model.text.model_copy(update={"vocab_size": tokenizer.vocab_size})
    model = config.model.model_copy(update={"text": text})
    return config.model_copy(update={"model": model})


def _captions(source: Source, config: RunConfig) -> Iterator[str]:
    plan = plan_of(source, config.seed)
    for position in range(min(len(source), config.tokenizer.samples)):
        try:
            yield from source.captions(plan.index(position))
        except DataError:
            continue  # counted when training reads the sample


def _check_same(config: RunConfig, folder: Path) -> None:
    """Compare settings with those that the checkpoint was trained under.

    Raises:
        CheckpointError: one that decides the weights differs.
        ConfigError: the checkpoint's has settings that this bifocal does not know.
    """
    path = folder / checkpoint.RUN_CONFIG
    # Settings that are newer than the checkpoint stood at what is now their default.
    trained = build(RunConfig, json.loads(path.read_text("utf-8")), str(path))
    before = _flat(trained.model_dump(mode="json"))
    now = _flat(config.model_dump(mode="json"))
    changed = [
        f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
        and not any(key == free or key.startswith(free + ".") for free in FREE_TO_CHANGE)
    ]
    if changed:
        raise CheckpointError(
            f"{config.out} holds a run with other settings ({'; '.join(changed)}): name another "
            "folder with out=, or delete that one"
        )


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
