"""A model as one artifact: configuration, weights, tokenizer and preprocessing.

Saved and loaded together; a mismatch is an error, never a warning. Weights are safetensors, the
rest is JSON, so nothing that is loaded can execute code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bifocal.data.picture import Picture, read_picture
from bifocal.errors import CheckpointError, ConfigError, did_you_mean
from bifocal.inputs.preprocess import Preprocess
from bifocal.inputs.prompts import PHOTO, prompts
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.model.build import build_model
from bifocal.model.clip import CLIP, TwoTowers
from bifocal.model.config import PREDICTED, CLIPConfig
from bifocal.model.head import ZeroShotHead, class_means
from bifocal.model.prefixes import FEW, read_rows
from bifocal.settings import build

FORMAT = "bifocal.model/1"
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
CACHE_LINE = 64
"""Bytes."""

Told = Callable[[int, int], object]
"""Hears how many of how many are done."""
T = TypeVar("T")


def quiet(done: int, total: int) -> None:
    """Hear of progress and tell nobody."""


@dataclass(frozen=True)
class Pretrained:
    """A model with all that it needs to read pictures and texts."""

    model: TwoTowers
    tokenizer: Tokenizer
    preprocess: Preprocess

    def __post_init__(self) -> None:
        text, vision = self.model.config.text, self.model.config.vision
        if self.tokenizer.vocab_size != text.vocab_size:
            raise CheckpointError(
                f"a tokenizer of {self.tokenizer.vocab_size} ids beside a model of "
                f"{text.vocab_size}: they do not belong together"
            )
        if self.tokenizer.context_length != text.context_length:
            raise CheckpointError(
                f"a tokenizer for {self.tokenizer.context_length} tokens beside a model that "
                f"reads {text.context_length}: they do not belong together"
            )
        if self.preprocess.image_size != vision.image_size:
            raise CheckpointError(
                f"preprocessing to {self.preprocess.image_size} pixels beside a model that "
                f"reads {vision.image_size}: they do not belong together"
            )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.logit_scale.device

    @property
    def clip(self) -> CLIP:
        """The model, for what only the published kind can do.

        Raises:
            ConfigError: it predicts texts, its text tower is a bag of words, or its projections
                are not linear.
        """
        config = self.model.config
        if config.objective != "contrastive":
            what = f"predicts {PREDICTED[config.objective]}"
        elif not isinstance(self.model, CLIP):
            what = "reads text as a bag of words"
        elif config.projection != "linear":
            what = f"has projections of the kind {config.projection}"
        else:
            return self.model
        raise ConfigError(
            f"this model {what}, where one of the published kind is needed: train it with "
            "loss.form=softmax, model.text.kind=transformer and model.projection=linear"
        )

    def encode_image(
        self, pictures: Sequence[Picture], batch_size: int = 64
    ) -> Float[Tensor, "images embed_dim"]:
        """Return image features of unit norm, float32, for paths, PIL pictures or arrays.

        Raises:
            DataError: a picture cannot be read; the message names it.
        """
        return self._encode(pictures, batch_size, self._encode_pictures)

    def encode_text(
        self, texts: Sequence[str], batch_size: int = 256
    ) -> Float[Tensor, "texts embed_dim"]:
        """Return text features of unit norm, float32; texts beyond the context are cut."""
        texts = [texts] if isinstance(texts, str) else texts
        return self._encode(
            texts,
            batch_size,
            lambda part: self.model.encode_text(self.tokenizer(part).to(self.device)),
        )

    def zero_shot(
        self, class_names: Sequence[str], templates: Sequence[str] = PHOTO
    ) -> ZeroShotClassifier:
        """Return the classifier that the names make: prompts averaged in embedding space.

        Paper section 3.1.4: each class is the renormalised mean of its prompts' features.

        Raises:
            ConfigError: the model predicts texts; bifocal.evaluate.zero_shot asks it for theirs.
        """
        weights = self.class_weights(prompts(class_names, templates))
        scale = self.model.logit_scale.detach().exp().float().cpu()
        return ZeroShotClassifier(self, tuple(class_names), ZeroShotHead(weights, scale))

    def class_weights(
        self, rows: Sequence[Sequence[str]], told: Told = quiet
    ) -> Float[Tensor, "classes embed_dim"]:
        """Return the classifier's vector of each class, given its prompts: one row a class.

        Where prompts are many, what they share at their beginnings is read once. `told` hears how
        many different prompts of how many are done.
        """
        texts = [text for row in rows for text in row]
        total = len(set(texts))
        model = self.model
        if total <= FEW or not isinstance(model, CLIP) or model.config.objective != "contrastive":
            features = self.encode_text(texts)
        else:
            ids = [tuple(self.tokenizer.encode_caption(text)[0]) for text in texts]
            total = len(set(ids))
            found = read_rows(model, ids, lambda done: told(done, total))
            with torch.no_grad():
                features = F.normalize(model.text_head(found), dim=-1).float().cpu()
        return class_means(features, [len(row) for row in rows])

    def save(self, folder: Path) -> None:
        """Write the artifact into `folder`, which is made.

        Raises:
            CheckpointError: it cannot be written.
        """
        table = {
            "format": FORMAT,
            "model": self.model.config.model_dump(mode="json"),
            "preprocess": self.preprocess.model_dump(mode="json"),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CONFIG).write_text(json.dumps(table, indent=2) + "\n", "utf-8")
            self.tokenizer.save(folder / TOKENIZER)
            state = {name: t.contiguous() for name, t in self.model.state_dict().items()}
            save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot write the model to {folder}: {error}") from None

    @torch.inference_mode()
    def _encode(
        self, items: Sequence[T], batch_size: int, encode: Callable[[Sequence[T]], Tensor]
    ) -> Float[Tensor, "items embed_dim"]:
        assert not self.model.training, "features are read in evaluation mode"
        if not len(items):
            return torch.empty(0, self.model.config.embed_dim)
        spans = range(0, len(items), batch_size)
        return torch.cat([encode(items[n : n + batch_size]).float().cpu() for n in spans])

    def _encode_pictures(self, pictures: Sequence[Picture]) -> Tensor:
        fitted = torch.stack([self.preprocess.fit(read_picture(picture)) for picture in pictures])
        return self.model.encode_image(self.preprocess.normalize(fitted.to(self.device)))


@dataclass(frozen=True, slots=True)
class ZeroShotClassifier:
    """Pictures to probabilities of named classes; `head` does the same from features."""

    pretrained: Pretrained
    class_names: tuple[str, ...]
    head: ZeroShotHead

    def __call__(self, pictures: Sequence[Picture]) -> Float[Tensor, "images classes"]:
        """Return each picture's probabilities, in the order of the class names.

        Raises:
            DataError: a picture cannot be read; the message names it.
        """
        return self.head.probabilities(self.pretrained.encode_image(pictures))


def load(path: str | Path, device: str | torch.device = "cpu") -> Pretrained:
    """Return the model in a folder: a saved model, a checkpoint, or a run (its newest model).

    Raises:
        CheckpointError: there is none, or its parts do not belong together.
    """
    folder = find_model(Path(path))
    config, preprocess = describe(folder)
    state = read_weights(folder)
    with torch.device("meta"):
        model = build_model(config)
    check_state(model, state, folder)
    state = {name: on_a_line(in_full(tensor)) for name, tensor in state.items()}
    model.load_state_dict(state, assign=True)
    tokenizer = Tokenizer.load(folder / TOKENIZER)
    return Pretrained(model.eval().to(device), tokenizer, preprocess)


def in_full(tensor: Tensor) -> Tensor:
    """Return a weight that is stored in 16 bits as float32, in which models are used."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def on_a_line(tensor: Tensor) -> Tensor:
    """Return a weight that begins where a line of the cache does; a copy where it must be.

    torch's own memory begins so, a mapped file anywhere, and elsewhere products are rounded
    otherwise: what is loaded would not be what was saved, to the last bit.
    """
    return tensor if tensor.data_ptr() % CACHE_LINE == 0 else tensor.clone()


def describe(folder: Path) -> tuple[CLIPConfig, Preprocess]:
    """Return the architecture and the preprocessing of the model in `folder`.

    Raises:
        CheckpointError: the description is missing, damaged or of another format.
    """
    try:
        table = json.loads((folder / CONFIG).read_text("utf-8"))
        tables = isinstance(table, dict) and (table.get("model"), table.get("preprocess"))
        if not (tables and all(isinstance(one, dict) for one in tables)):
            raise ValueError(f"{CONFIG} does not hold the tables 'model' and 'preprocess'")
        if table["format"] != FORMAT:
            raise CheckpointError(f"{folder} has the format {table['format']}, expected {FORMAT}")
        config = build(CLIPConfig, table["model"], str(folder / CONFIG))
        return config, build(Preprocess, table["preprocess"], str(folder / CONFIG))
    except (OSError, ValueError, KeyError, ConfigError) as error:
        raise CheckpointError(f"cannot load the model in {folder}: {error}") from None


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights of the model in `folder`.

    Raises:
        CheckpointError: they cannot be read.
    """
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot load the model in {folder}: {error}") from None


def find_model(path: Path) -> Path:
    """Return the folder of the model that `path` means.

    Raises:
        CheckpointError: there is none.
    """
    checkpoints = sorted(path.glob("checkpoints/step-*"))
    for folder in (path, path / "model", *reversed(checkpoints)):
        if (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file():
            return folder
    raise CheckpointError(
        f"no model in {path}: give a run's folder, a checkpoint, or a folder with {CONFIG} and "
        f"{WEIGHTS}"
    )


def check_state(model: TwoTowers, state: dict[str, Tensor], origin: Path) -> None:
    """Compare names and shapes of weights with what the configuration says.

    Raises:
        CheckpointError: they differ; the message names the first differences.
    """
    expected = model.state_dict()
    faults = [f"'{n}' is missing" for n in expected.keys() - state.keys()]
    faults += [
        f"'{n}' is unknown{did_you_mean(n, expected)}" for n in state.keys() - expected.keys()
    ]
    faults += [
        f"'{name}' is {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if faults:
        shown = "; ".join(sorted(faults)[:5])
        raise CheckpointError(
            f"the weights in {origin} do not fit their configuration: {len(faults)} faults, "
            f"as {shown}"
        )
