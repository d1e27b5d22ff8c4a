"""bifocal's model with the methods that programs for `clip` and `open_clip` call.

The parameters, their names and the arithmetic are `model.clip.CLIP`'s; only what the methods
return differs. Knows the peers' interfaces; knows nothing of files.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bifocal.inputs.preprocess import Preprocess
from bifocal.model.clip import CLIP
from bifocal.model.text_transformer import TextTransformer


class PeerModel(TextTransformer):
    """The towers of a `CLIP`, shared with it, under the same names.

    Args:
        source: the model whose weights these are.
    """

    logit_bias: nn.Parameter | None

    def __init__(self, source: CLIP) -> None:
        config = source.config
        with torch.device("meta"):
            super().__init__(config.text_transformer, config.embed_dim, config.activation)
        text = {n: t for n, t in source.state_dict().items() if n in self.state_dict()}
        self.load_state_dict(text, assign=True)
        self.config = config
        self.visual = source.visual
        self.logit_scale = source.logit_scale
        self.register_parameter("logit_bias", source.logit_bias)


class ClipModel(PeerModel):
    """As `clip.load` returns it: features are not normalised, `forward` gives logits."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, to which pictures are converted."""
        return self.visual.conv1.weight.dtype

    def encode_image(
        self, image: Float[Tensor, "batch 3 height height"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return image features, not normalised."""
        return self.visual(image.to(self.dtype))

    def encode_text(self, text: Int[Tensor, "batch length"]) -> Float[Tensor, "batch embed_dim"]:
        """Return text features, not normalised."""
        return self.read_text(text)

    def forward(
        self, image: Float[Tensor, "images 3 height height"], text: Int[Tensor, "texts length"]
    ) -> tuple[Float[Tensor, "images texts"], Float[Tensor, "texts images"]]:
        """Return (logits_per_image, logits_per_text)."""
        image_features = F.normalize(self.encode_image(image), dim=-1)
        text_features = F.normalize(self.encode_text(text), dim=-1)
        logits_per_image = self.logit_scale.exp() * image_features @ text_features.T
        return logits_per_image, logits_per_image.T


class OpenClipModel(PeerModel):
    """As `open_clip.create_model` returns it: `forward` gives features and scale, not logits."""

    output_dict: bool

    def encode_image(
        self, image: Float[Tensor, "batch 3 height height"], normalize: bool = False
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return image features, of unit norm if `normalize`."""
        features = self.visual(image)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(
        self, text: Int[Tensor, "batch length"], normalize: bool = False
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return text features, of unit norm if `normalize`."""
        features = self.read_text(text)
        return F.normalize(features, dim=-1) if normalize else features

    def get_logits(
        self, image: Float[Tensor, "images 3 height height"], text: Int[Tensor, "texts length"]
    ) -> tuple[Float[Tensor, "images texts"], Float[Tensor, "texts images"]]:
        """Return (logits_per_image, logits_per_text)."""
        features = self.encode_image(image, normalize=True), self.encode_text(text, normalize=True)
        logits = self.logit_scale.exp() * features[0] @ features[1].T
        logits = logits if self.logit_bias is None else logits + self.logit_bias
        return logits, logits.T

    def forward(
        self,
        image: Float[Tensor, "images 3 height height"] | None = None,
        text: Int[Tensor, "texts length"] | None = None,
    ) -> Any:
        """Return (image_features, text_features, logit_scale), or a dict if `output_dict`.

        Features have unit norm, the scale is exponentiated, a part that is not given is None, and
        a logit bias follows where the model has one.
        """
        outputs = {
            "image_features": None if image is None else self.encode_image(image, normalize=True),
            "text_features": None if text is None else self.encode_text(text, normalize=True),
            "logit_scale": self.logit_scale.exp(),
        }
        if self.logit_bias is not None:
            outputs["logit_bias"] = self.logit_bias
        return outputs if self.output_dict else tuple(outputs.values())


def clip_model(source: CLIP) -> ClipModel:
    """Return a model with `clip`'s methods on the weights of `source`."""
    model, size = ClipModel(source), source.config.vision.image_size
    vars(model.visual).update(input_resolution=size, output_dim=source.config.embed_dim)
    return model.eval()


def open_clip_model(source: CLIP, preprocess: Preprocess, output_dict: bool) -> OpenClipModel:
    """Return a model with `open_clip`'s methods on the weights of `source`, in training mode."""
    model = OpenClipModel(source)
    model.output_dict = output_dict
    described = {
        "size": preprocess.image_size,
        "mode": "RGB",
        "mean": preprocess.mean,
        "std": preprocess.std,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    }
    vars(model.visual).update(
        image_size=(preprocess.image_size,) * 2,
        image_mean=preprocess.mean,
        image_std=preprocess.std,
        preprocess_cfg=described,
        output_dim=source.config.embed_dim,
    )
    return model.train()
