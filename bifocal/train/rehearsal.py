"""A chunk's way through both towers and back, rehearsed without memory and without arithmetic.

Tensors have shapes and types but no content (torch's FakeTensorMode), so that the bytes which a
real pass would hold are counted in seconds, whatever the size of the model or the chunk. Every
result of an operator is seen when it is made and when it is let go. What an operator allocates for
itself alone (a convolution's workspace) is not seen, nor what an allocator wastes; nor what
torch.compile saves.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from bifocal.inputs.preprocess import Preprocess
from bifocal.model.build import build_model
from bifocal.model.clip import Tower, TwoTowers
from bifocal.model.config import CLIPConfig, VisionTransformerConfig
from bifocal.model.modified_resnet import ModifiedResNet
from bifocal.optim.groups import store_matrices
from bifocal.precision import DTYPES, Precision
from bifocal.train.chunks import backward, beside_stored
from bifocal.types import Features

DeviceType = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Towers:
    """An architecture and how a run lets it compute."""

    model: CLIPConfig
    length: int
    """Tokens of every caption."""
    precision: Precision = "float32"
    image_weights: Precision = "float32"
    text_weights: Precision = "float32"
    gradient_checkpointing: bool = False
    patch_dropout: float = 0.0
    """Share of a Vision Transformer's patches that is left out."""
    lock: Tower | None = None
    """The tower that is not trained."""
    stored_images: bool = False
    """Whether features that the locked image tower has given stand for pictures."""
    device: DeviceType = "cpu"
    """By whose rules autocast chooses what stays in float32."""

    @property
    def kept_patches(self) -> int | None:
        """Patches of a picture that are read, where some are left out."""
        vision = self.model.vision
        if not (self.patch_dropout and isinstance(vision, VisionTransformerConfig)):
            return None
        return max(1, round(vision.patches * (1 - self.patch_dropout)))

    def build(self) -> TwoTowers:
        """Return the model as a run makes it ready for training, on the device of the moment."""
        model = build_model(self.model)
        if isinstance(model.visual, ModifiedResNet):
            for kernel in model.visual.parameters():
                if kernel.ndim == 4:
                    kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
        model.set_gradient_checkpointing(self.gradient_checkpointing)
        if self.lock:
            model.lock(self.lock)
        store_matrices(model.tower_parameters("image"), DTYPES[self.image_weights])
        store_matrices(model.tower_parameters("text"), DTYPES[self.text_weights])
        return model.train()

    def inputs(self, pairs: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return pictures, token ids and the patches that are kept: without content.

        Pictures are in 8 bits, or features in float32 where these are stored.
        """
        size = self.model.vision.image_size
        images = torch.empty(pairs, 3, size, size, dtype=torch.uint8)
        if self.stored_images:
            images = torch.empty(pairs, self.model.embed_dim)
        tokens = torch.empty(pairs, self.length, dtype=torch.long)
        if self.kept_patches is None or self.stored_images:
            return images, tokens, None
        return images, tokens, torch.empty(pairs, self.kept_patches, dtype=torch.long)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Bytes beyond the model, its gradients of earlier chunks and the batch."""

    activations: int
    """Held between the forward and the backward pass; features included."""
    peak: int
    """Held at the worst moment; gradients of the parameters included as they come."""
    gradients: int
    """Those of the parameters that have come by then."""
    feature_bytes: int
    """Of one element of the features."""


class HeldBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operators make, while they live.

    Args:
        scalar: what a tensor without content is said to hold when its value is asked for.
    """

    def __init__(self, scalar: int | None = None) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.gradients = self.gradients_at_peak = 0
        self._scalar = scalar
        self._held: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if self._scalar is not None and func is torch.ops.aten._local_scalar_dense.default:
            return self._scalar
        result = func(*args, **(kwargs or {}))
        self._hold(t for t in tree_iter(result) if isinstance(t, Tensor))
        return result

    def disregard(self, tensors: Iterable[Tensor]) -> None:
        """Leave out of the count what is there already."""
        now = self.now
        self._hold(tensors)
        self.now = self.peak = now

    def gradient(self, parameter: Tensor) -> None:
        """Take note of a gradient that has come; a hook of its parameter."""
        assert parameter.grad is not None
        self.gradients += parameter.grad.nbytes

    def _hold(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            place, size = storage._cdata, storage.nbytes()
            if place in self._held:
                continue
            self._held[place] = weakref.ref(storage, partial(self._let_go, place, size))
            self.now += size
            if self.now > self.peak:
                self.peak, self.gradients_at_peak = self.now, self.gradients

    def _let_go(self, place: int, size: int, storage: object) -> None:
        del self._held[place]
        self.now -= size


def rehearse(towers: Towers, pairs: int, *, again: bool = False) -> Rehearsal:
    """Return the bytes that reading a chunk and differentiating it takes.

    Args:
        towers: what reads.
        pairs: of the chunk.
        again: whether an earlier chunk of the same step has left its gradients.
    """
    with FakeTensorMode() as fake:
        model = towers.build()
        inputs = towers.inputs(pairs)
    # All captions end at their last token.
    with fake, HeldBytes(scalar=towers.length - 1) as held, _rules(towers):
        held.disregard([*model.parameters(), *model.buffers(), *inputs[:2]])
        if again:
            _differentiate(_read(model, towers, *inputs))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(held.gradient)
        before = held.peak = held.now
        features = _read(model, towers, *inputs)
        activations, feature_bytes = held.now - before, features.image.element_size()
        _differentiate(features)
    come = 0 if again else held.gradients_at_peak
    return Rehearsal(activations, held.peak - before, come, feature_bytes)


def _read(
    model: TwoTowers,
    towers: Towers,
    images: Tensor,
    tokens: Int[Tensor, "batch length"],
    kept: Int[Tensor, "batch kept"] | None,
) -> Features:
    lengths = [towers.length] * len(tokens)
    pixels = images
    if not towers.stored_images:
        pixels = Preprocess(image_size=towers.model.vision.image_size).normalize(images)
    # The rules of a CPU are those of every device, but for what _rules lays on top.
    dtype = DTYPES[towers.precision]
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        if towers.stored_images:
            return beside_stored(model, images, tokens, lengths)
        return model.features(pixels, tokens, kept, lengths)


def _differentiate(features: Features) -> None:
    seeds = (torch.empty_like(f) for f in (features.image, features.text, features.logit_scale))
    backward(features, Features(*seeds))


class _NormsInFull(TorchFunctionMode):
    """Layer normalisation in float32 under autocast, as accelerators compute it."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.layer_norm:
            args = (args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))


def _rules(towers: Towers) -> AbstractContextManager[object]:
    match towers.device:
        case "cuda":
            return _NormsInFull()
        case "cpu":
            return nullcontext()
