"""Scenes as sources of samples: pictures with captions, and pictures with classes.

Knows: which draws belong to which split. Must not know: how scenes are laid out, drawn or
phrased. Nothing is stored: a sample is drawn when read, from (seed, split, index) alone, so
reads may come in any order, from any thread, and again.
"""

from __future__ import annotations

import hashlib
import json

from bifocal.data.sample import Sample
from bifocal.data.scenes.classes import class_names, unseen_classes
from bifocal.data.scenes.draws import Draws
from bifocal.data.scenes.grammar import captions
from bifocal.data.scenes.layout import sample_class_scene, sample_scene
from bifocal.data.scenes.render import render
from bifocal.data.scenes.scene import Scene
from bifocal.data.scenes.vocabulary import TEXTURES, all_pairs, seen_pairs, unseen_pairs
from bifocal.errors import ConfigError

FORMAT = 1
"""Version of everything that is drawn and said; a change of content must raise it."""

MIN_IMAGE_SIZE = 16
SHARD = 1024

_STREAMS = {"train": 0, "val": 1, "seen": 2, "unseen": 3, "binding": 4}


def stream(name: str, seed: int, index: int) -> Draws:
    """Return the draws of one sample of the named stream."""
    return Draws(seed, _STREAMS[name], index)


def check_arguments(length: int, seed: int, image_size: int) -> None:
    """Raise ConfigError unless the arguments that all scene data share are in range."""
    if length < 1:
        raise ConfigError(f"length of scenes is {length}; it must be at least 1")
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed of scenes is {seed}; it must be from 0 to 2**64 - 1")
    if image_size < MIN_IMAGE_SIZE:
        raise ConfigError(
            f"image_size of scenes is {image_size}; it must be at least {MIN_IMAGE_SIZE} pixels, "
            f"and things are legible from 32"
        )


def _hash(**content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _shards(length: int) -> tuple[int, ...]:
    full, rest = divmod(length, SHARD)
    return (SHARD,) * full + ((rest,) if rest else ())


def _check_index(index: int, length: int) -> None:
    if not 0 <= index < length:
        raise IndexError(f"sample {index} of a source of {length}")


class SceneSource:
    """Scenes with four captions each; only seen (colour, shape) pairs, in both splits.

    Args:
        length: scenes, at least 1.
        seed: 0 to 2**64 - 1.
        image_size: side of the pictures in pixels, at least 16; legible from 32.
        split: "train", or "val" for the same distribution from a stream of its own.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(self, length: int, seed: int, image_size: int = 64, split: str = "train") -> None:
        check_arguments(length, seed, image_size)
        if split not in ("train", "val"):
            raise ConfigError(f"split of scenes is {split!r}; it must be 'train' or 'val'")
        self._length, self._seed, self._image_size, self._split = length, seed, image_size, split
        self.class_names: tuple[str, ...] = ()
        self.shard_sizes = _shards(length)
        self.identity = _hash(
            what="scenes",
            format=FORMAT,
            length=length,
            seed=seed,
            image_size=image_size,
            split=split,
        )

    def __len__(self) -> int:
        return self._length

    def described(self, index: int) -> tuple[Scene, tuple[str, ...]]:
        """Return the facts of scene `index` and its captions, without drawing its picture."""
        _check_index(index, self._length)
        draws = stream(self._split, self._seed, index)
        scene = sample_scene(draws, seen_pairs())
        return scene, captions(draws, scene)

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the captions of scene `index`."""
        return self.described(index)[1]

    def place(self, index: int) -> str:
        """Return what messages call this source."""
        return f"scenes:{self._split}"

    def read(self, index: int) -> Sample:
        """Return scene `index`: uint8 picture and four captions, no label."""
        scene, texts = self.described(index)
        return Sample(
            key=f"{self._split}-{index:09d}",
            image=render(scene, self._image_size),
            captions=texts,
            label=None,
        )


class SceneClassSource:
    """Pictures of one thing each, labelled, for zero-shot classification.

    Both sources name all classes: an unseen picture is scored against seen names as well
    (generalised zero-shot; Chao et al. 2016, arXiv 1605.04253).

    Args:
        length: pictures, at least 1.
        seed: 0 to 2**64 - 1.
        image_size: side of the pictures in pixels, at least 16; legible from 32.
        seen: pictures of pairs that training contains, or of those it never does.
        textured: 400 classes such as "striped red circle" instead of 100 such as "red circle".

    Attributes:
        unseen_classes: indices into `class_names` of the classes that training never contains.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self, length: int, seed: int, image_size: int = 64, *, seen: bool, textured: bool = False
    ) -> None:
        check_arguments(length, seed, image_size)
        self._length, self._seed, self._image_size = length, seed, image_size
        self._seen, self._textured = seen, textured
        self.class_names = class_names(textured)
        self.unseen_classes = unseen_classes(textured)
        self.shard_sizes = _shards(length)
        self.identity = _hash(
            what="scene classes",
            format=FORMAT,
            length=length,
            seed=seed,
            image_size=image_size,
            seen=seen,
            textured=textured,
        )

    def __len__(self) -> int:
        return self._length

    def scene(self, index: int) -> Scene:
        """Return the facts of picture `index`."""
        _check_index(index, self._length)
        draws = stream("seen" if self._seen else "unseen", self._seed, index)
        pairs = seen_pairs() if self._seen else unseen_pairs()
        return sample_class_scene(draws, draws.choice(pairs))

    def label(self, index: int) -> int:
        """Return the class of picture `index` without drawing it."""
        return self._label(self.scene(index))

    def _label(self, scene: Scene) -> int:
        (group,) = scene.groups
        pair = all_pairs().index(group.pair)
        return pair * len(TEXTURES) + TEXTURES.index(group.texture) if self._textured else pair

    def read(self, index: int) -> Sample:
        """Return picture `index`: uint8 picture and label, no captions."""
        scene = self.scene(index)
        return Sample(
            key=f"{'seen' if self._seen else 'unseen'}-{index:09d}",
            image=render(scene, self._image_size),
            captions=(),
            label=self._label(scene),
        )

    def captions(self, index: int) -> tuple[str, ...]:
        """Return no caption: these pictures have only a label."""
        return ()

    def place(self, index: int) -> str:
        """Return what messages call this source."""
        return f"scenes:{'seen' if self._seen else 'unseen'}"
