"""Every setting of a training run, with the paper's values where it gives any.

A recipe is a TOML file of these tables; `model.preset` names an architecture of the zoo and the
other keys of `model` are laid on top of it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_serializer,
    model_validator,
)

from bifocal.data.sources import CACHE_GB, Spec
from bifocal.inputs.preprocess import OPENAI_MEAN, OPENAI_STD, Augment
from bifocal.inputs.prompts import PHOTO
from bifocal.model.clip import MAX_LOGIT_SCALE
from bifocal.model.config import CLIPConfig, Objective, VisionTransformerConfig
from bifocal.optim.statistics import Statistics
from bifocal.precision import Precision
from bifocal.settings import Settings


class DataConfig(Settings):
    """Where pairs come from and how they are read."""

    train: Spec
    """Training pairs: see bifocal.data.sources for what a path can be; or a list of
    {path=…, weight=…}, sources that are mixed by weight."""
    val: str = ""
    """Held-out pairs for retrieval; empty for none."""
    root: str = ""
    """Where relative paths start: by default $BIFOCAL_DATA, or the current folder."""
    classes: str = ""
    """JSON list of class names for labelled pictures: by default classes.json beside them."""
    templates: tuple[str, ...] = PHOTO
    """Sentences that make captions of class names."""
    image_column: str = ""
    caption_column: str = ""
    batch_size: PositiveInt = 256
    """Pairs of one step, over all processes."""
    image_features: str = ""
    """Folder that `bifocal embed` wrote for the training pairs with the model of `init`: with
    train.lock=image they stand for the pictures, which are then not read."""
    threads: NonNegativeInt = 2
    """Threads that decode ahead; 0 decodes in the thread that trains."""
    decoding: Literal["exact", "fast"] = "exact"
    """How training JPEGs are read: "fast" reads them at 1/2, 1/4 or 1/8 of their size where the
    crop keeps model.image_size pixels, at a third less time a pair; evaluation is always exact."""
    cache_dir: str = ""
    """Where shards of a store (s3://, https:// …) are kept; by default in the user's cache."""
    cache_gb: PositiveFloat = CACHE_GB
    """Room for them; those not used for longest go first."""
    store_timeout: PositiveFloat = 60.0
    """Seconds without a byte after which a store is asked again."""
    max_bad: float = Field(default=0.1, ge=0, le=1)
    """Largest share of samples that may be skipped before the run stops."""


class TokenizerConfig(Settings):
    """The vocabulary: read from a path, or learned from the training captions."""

    path: str = ""
    samples: PositiveInt = 200_000
    """Largest number of samples whose captions are read to learn it; `model.text.vocab_size` is
    the largest vocabulary, and is set to what was learned."""


class NormalizeConfig(Settings):
    """Statistics of the pictures' channels."""

    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD


class OptimConfig(Settings):
    """AdamW and its schedule; paper tables 18 and 19."""

    lr: PositiveFloat = Field(allow_inf_nan=False)
    weight_decay: float = Field(default=0.2, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    eps: PositiveFloat
    warmup_steps: NonNegativeInt = 2000
    max_grad_norm: PositiveFloat | None = None
    """Gradients beyond this norm are scaled down to it."""
    statistics: Statistics = "float32"
    """How Adam's averages are stored; 16 bits are rounded stochastically."""
    image_weights: Precision = "float32"
    """How the matrices of the image tower are stored; in 16 bits, rounded stochastically, they need
    a train.precision of 16 bits, and gradients of several chunks are added up in 16 bits."""
    text_weights: Precision = "float32"
    """The same for the text tower: 16 bits in the paper."""
    max_update_rms: PositiveFloat | None = None
    """Moves a tensor less when its gradient is this much larger than Adam expects; StableAdamW
    sets 1."""
    average_decay: float = Field(default=0.0, ge=0, lt=1)
    """Evaluate and save a moving average of the weights, which keeps this share a step; 0 the
    weights themselves."""


OBJECTIVES: dict[str, Objective] = {
    "softmax": "contrastive",
    "sigmoid": "contrastive",
    "bag_of_words": "bag_of_words",
    "caption": "caption",
}
"""What a loss teaches a model."""


class LossConfig(Settings):
    """Which loss, and how it is computed."""

    form: Literal["softmax", "sigmoid", "bag_of_words", "caption"] = "softmax"
    """The paper's contrastive one, or SigLIP's, which needs model.init_logit_bias; or, to compare
    with them (figure 2), predicting the words of a caption, which needs
    model.text.kind=bag_of_words, or the caption itself."""
    sharing: bool = False
    """Whether pairs of the same sample (a batch across the end of an epoch may hold some twice), or
    with the same caption, count as each other's partners; contrastive losses only."""
    tile: NonNegativeInt | None = None
    """Side of the tiles of a contrastive loss's similarity matrix, by default what suits the
    device; 0 computes it whole, the plain way."""
    learn_temperature: bool = True
    """Whether the temperature is learned; else it stays at model.init_temperature, or at what
    `init` brings."""
    max_logit_scale: PositiveFloat = MAX_LOGIT_SCALE
    """Where a learned multiplier of the cosines is clipped, for stability; inf nowhere."""

    @field_serializer("max_logit_scale", when_used="json")
    def _without_infinity(self, value: float) -> float | str:
        # JSON has no infinity; as text it is read back.
        return value if math.isfinite(value) else str(value)


class ScheduleConfig(Settings):
    """How long to train and what happens on the way."""

    epochs: PositiveFloat | None = Field(default=None, allow_inf_nan=False)
    """Times that the data are seen; may be a fraction."""
    steps: PositiveInt | None = None
    """Length of the run in steps; where both are set, this one counts."""
    precision: Precision = "float32"
    chunk_size: NonNegativeInt = 0
    """Pairs that one process reads at a time, by gradient caching; 0 reads its part at once."""
    lock: Literal["image", "text"] | None = None
    """Tower of `init` that stays as it is while the other learns to fit it."""
    patch_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of a picture's patches that a training step leaves out; Vision Transformers only."""
    gradient_checkpointing: bool = False
    """Compute activations inside blocks again for the gradients: less memory, a third more work."""
    shard: bool = False
    """Spread matrices, their gradients and averages over the processes: less memory on each, more
    traffic between them."""
    compile: bool = False
    """Compile the blocks of both towers with torch.compile and, on a CPU, the optimizer's step
    where it is in 16 bits; needs a compiler."""
    deterministic: bool = False
    """Take every sum on a CUDA device in an order that is always the same, so that a run that is
    resumed there ends with the same bits; slower. CPUs do so anyway."""
    max_rejected: PositiveInt = 10
    """Steps in a row whose loss or gradient is not finite before the run stops."""
    device: str = "auto"
    checkpoint_every: PositiveInt = 1000
    """Steps between checkpoints; one more is written at the end and on Ctrl-C."""
    keep_last: PositiveInt = 2
    """Checkpoints that are kept; older ones are deleted once a newer one is on disk."""
    evaluate_every: NonNegativeInt = 0
    """Steps between evaluations; 0 for one at the end."""
    keep_best: str = ""
    """Figure of the evaluations, as "val/image_to_text_recall@1", whose best model is kept as
    out/best beside the last; of a loss or a rank the least is best. Empty keeps none."""
    log_every: PositiveInt = 10

    @model_validator(mode="after")
    def _check(self) -> ScheduleConfig:
        if self.epochs is None and self.steps is None:
            raise ValueError("set train.epochs or train.steps: how long to train")
        return self


class ZeroShotConfig(Settings):
    """Labelled pictures that are classified by name."""

    data: str
    classes: str = ""
    templates: tuple[str, ...] = PHOTO


class EvaluateConfig(Settings):
    """What is measured on the way and at the end."""

    zero_shot: dict[str, ZeroShotConfig] = Field(default_factory=dict)
    """Data sets by name."""
    retrieval: bool = True
    """Recall both ways on data.val, if there is one."""
    limit: PositiveInt = 5000
    """Most pictures of a labelled set that an evaluation on the way reads. The last one reads all,
    and so does retrieval always: its recalls depend on how many there are to choose from."""


class RunConfig(Settings):
    """A whole run."""

    out: str
    seed: int = 0
    init: str = ""
    """Run, checkpoint or model folder whose weights, vocabulary and architecture this run starts
    from; `model` then holds what differs, as model.image_size=336."""
    model: CLIPConfig
    data: DataConfig
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    normalize: NormalizeConfig = Field(default_factory=NormalizeConfig)
    augment: Augment = Field(default_factory=lambda: Augment())
    loss: LossConfig = Field(default_factory=LossConfig)
    optim: OptimConfig
    train: ScheduleConfig
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        patches = isinstance(self.model.vision, VisionTransformerConfig)
        if self.train.patch_dropout and not patches:
            raise ValueError("train.patch_dropout needs a Vision Transformer: a ResNet has none")
        half = {self.optim.image_weights, self.optim.text_weights} - {"float32"}
        if half and self.train.precision == "float32":
            raise ValueError(
                f"weights in {' and '.join(sorted(half))} need train.precision=bfloat16 or float16"
            )
        locked = {"image": self.optim.image_weights, "text": self.optim.text_weights}
        if self.train.lock and locked[self.train.lock] != "float32":
            raise ValueError(
                f"train.lock={self.train.lock} keeps that tower as it is: leave "
                f"optim.{self.train.lock}_weights at float32"
            )
        if self.data.image_features and self.train.lock != "image":
            raise ValueError("data.image_features stand for a locked tower: set train.lock=image")
        if self.train.lock and not self.init:
            raise ValueError("train.lock keeps what init brings: set init to a trained model")
        self._check_objective()
        return self

    def _check_objective(self) -> None:
        form, objective = self.loss.form, self.model.objective
        if objective != OBJECTIVES[form]:
            raise ValueError(
                f"model.objective is {objective}, but loss.form={form} teaches {OBJECTIVES[form]}: "
                "leave model.objective out"
            )
        if objective == "contrastive":
            return
        if self.data.val and self.evaluate.retrieval:
            raise ValueError(
                f"a model of loss.form={form} has no text features to retrieve by: set "
                "evaluate.retrieval=false"
            )
        contrastive = {
            "loss.sharing": self.loss.sharing,
            "loss.learn_temperature": not self.loss.learn_temperature,
            "loss.max_logit_scale": self.loss.max_logit_scale != MAX_LOGIT_SCALE,
            "train.shard": self.train.shard,
            "data.image_features": bool(self.data.image_features),
        }
        for name, is_set in contrastive.items():
            if is_set:
                raise ValueError(f"{name} is for contrastive losses: leave it out for {form}")

    @property
    def data_root(self) -> Path:
        """Where relative data paths start."""
        return Path(self.data.root or ".").expanduser()
