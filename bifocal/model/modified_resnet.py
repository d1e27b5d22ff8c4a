"""The ResNet image tower with CLIP's three changes.

Paper section 2.4: the ResNet-D stem of three convolutions (He et al. 2019), anti-aliased strides
(Zhang 2019) as an average pool before the convolution, and attention pooling in place of the
global average. Knows pictures as normalised floats; knows nothing of text.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bifocal.model.config import ModifiedResNetConfig
from bifocal.model.layers import through_block


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions around a residual; a stride is an average pool."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        outplanes = planes * self.expansion
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, outplanes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outplanes)
        self.downsample: nn.Module | None = None
        if stride > 1 or inplanes != outplanes:
            self.downsample = nn.Sequential(
                OrderedDict(
                    [
                        ("-1", nn.AvgPool2d(stride) if stride > 1 else nn.Identity()),
                        ("0", nn.Conv2d(inplanes, outplanes, 1, bias=False)),
                        ("1", nn.BatchNorm2d(outplanes)),
                    ]
                )
            )

    def forward(
        self, x: Float[Tensor, "batch inplanes height height"]
    ) -> Float[Tensor, "batch outplanes out_height out_height"]:
        """Return the feature map after one block."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(self.avgpool(out)))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)), inplace=True)


class AttentionPool2d(nn.Module):
    """One attention step whose query is the mean of the feature map.

    Args:
        feature_size: rows of the square feature map.
        width: its channels.
        heads: attention heads.
        embed_dim: width of the shared space.
    """

    def __init__(self, feature_size: int, width: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.empty(feature_size**2 + 1, width))
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, embed_dim)

    def forward(
        self, x: Float[Tensor, "batch width height height"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return image features, not normalised."""
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
        x = x + self.positional_embedding.to(x.dtype)
        q, k, v = (
            proj(part).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj, part in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x))
        )
        pooled = F.scaled_dot_product_attention(q, k, v)
        return self.c_proj(pooled.transpose(1, 2).flatten(1))


class ModifiedResNet(nn.Module):
    """Stem, four stages of bottlenecks and attention pooling.

    Args:
        config: sizes of the tower.
        embed_dim: width of the shared space.
    """

    checkpointing = False
    """Whether activations inside a block are computed again for its gradients, and not kept."""

    def __init__(self, config: ModifiedResNetConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        self.layer1 = _stage(width, width, config.layers[0], stride=1)
        self.layer2 = _stage(width * 4, width * 2, config.layers[1], stride=2)
        self.layer3 = _stage(width * 8, width * 4, config.layers[2], stride=2)
        self.layer4 = _stage(width * 16, width * 8, config.layers[3], stride=2)
        self.attnpool = AttentionPool2d(
            config.feature_size, config.feature_width, config.heads, embed_dim
        )

    def forward(
        self, images: Float[Tensor, "batch 3 height height"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return image features, not normalised."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = self.avgpool(F.relu(self.bn3(self.conv3(x)), inplace=True))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = through_block(block, x, checkpointing=self.checkpointing)
        return self.attnpool(x)

    def penultimate(
        self, images: Float[Tensor, "batch 3 height height"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return what probes read: the features themselves, since pooling ends in that space."""
        return self(images)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw every weight anew: He's for convolutions, each block's last gain as configured."""
        for module in self.modules():
            match module:
                case nn.Conv2d():
                    nn.init.kaiming_normal_(
                        module.weight, mode="fan_out", nonlinearity="relu", generator=generator
                    )
                case nn.BatchNorm2d():
                    module.reset_running_stats()
                    module.reset_parameters()
        for module in self.modules():
            if isinstance(module, Bottleneck):
                nn.init.constant_(module.bn3.weight, self.config.init_residual_gain)
        std = self.config.feature_width**-0.5
        pool = self.attnpool
        for linear in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
            nn.init.normal_(linear.weight, std=std, generator=generator)
            nn.init.zeros_(linear.bias)
        nn.init.normal_(pool.positional_embedding, std=std, generator=generator)


def _stage(inplanes: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    outplanes = planes * Bottleneck.expansion
    first = Bottleneck(inplanes, planes, stride)
    return nn.Sequential(first, *(Bottleneck(outplanes, planes, 1) for _ in range(blocks - 1)))
