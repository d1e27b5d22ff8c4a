"""open_clip's names of models and of published weights: which repository of the hub has which.

Facts of open_clip's registry, for the architectures that bifocal has. The activation of weights
is that of their repository, whatever the name of the architecture says.
"""

from __future__ import annotations

from bifocal.interop import hub
from bifocal.model import zoo
from bifocal.model.config import CLIPConfig, TextConfig, VisionTransformerConfig

QUICK = "-quickgelu"
"""Ending of the names that mean QuickGELU; without it GELU is meant."""


def open_clip_name(name: str) -> str:
    """Return OpenAI's name of a model as open_clip writes it."""
    return name.replace("@336px", "-336").replace("/", "-")


def _huge() -> CLIPConfig:
    vision = VisionTransformerConfig(image_size=224, patch_size=14, width=1280, layers=32, heads=16)
    text = TextConfig(width=1024, layers=24, heads=16)
    return CLIPConfig(embed_dim=1024, vision=vision, text=text)


_BASE = {
    **{open_clip_name(name): config for name, config in zoo.PUBLISHED.items()},
    "ViT-H-14": _huge(),
}

ARCHITECTURES: dict[str, CLIPConfig] = {
    f"{name}{ending}": config.model_copy(update={"activation": activation})
    for name, config in _BASE.items()
    for ending, activation in (("", "gelu"), (QUICK, "quick_gelu"))
}
"""Every architecture by open_clip's name, with either activation."""

_OPENAI = {open_clip_name(name): place for name, place in hub.REPOSITORIES.items()}

_OTHERS: dict[str, dict[str, str]] = {
    "RN50": {"yfcc15m": "timm/resnet50_clip.yfcc15m", "cc12m": "timm/resnet50_clip.cc12m"},
    "RN101": {"yfcc15m": "timm/resnet101_clip.yfcc15m"},
    "ViT-B-32": {
        "laion400m_e31": "timm/vit_base_patch32_clip_224.laion400m_e31",
        "laion400m_e32": "timm/vit_base_patch32_clip_224.laion400m_e32",
        "laion2b_e16": "timm/vit_base_patch32_clip_224.laion2b_e16",
        "laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "datacomp_xl_s13b_b90k": "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        "metaclip_400m": "timm/vit_base_patch32_clip_224.metaclip_400m",
        "metaclip_fullcc": "timm/vit_base_patch32_clip_224.metaclip_2pt5b",
    },
    "ViT-B-16": {
        "laion400m_e31": "timm/vit_base_patch16_clip_224.laion400m_e31",
        "laion400m_e32": "timm/vit_base_patch16_clip_224.laion400m_e32",
        "laion2b_s34b_b88k": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        "datacomp_xl_s13b_b90k": "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
        "datacomp_l_s1b_b8k": "laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K",
        "dfn2b": "apple/DFN2B-CLIP-ViT-B-16",
        "metaclip_400m": "timm/vit_base_patch16_clip_224.metaclip_400m",
        "metaclip_fullcc": "timm/vit_base_patch16_clip_224.metaclip_2pt5b",
    },
    "ViT-L-14": {
        "laion400m_e31": "timm/vit_large_patch14_clip_224.laion400m_e31",
        "laion400m_e32": "timm/vit_large_patch14_clip_224.laion400m_e32",
        "laion2b_s32b_b82k": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "datacomp_xl_s13b_b90k": "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        "metaclip_400m": "timm/vit_large_patch14_clip_224.metaclip_400m",
        "metaclip_fullcc": "timm/vit_large_patch14_clip_224.metaclip_2pt5b",
        "dfn2b": "apple/DFN2B-CLIP-ViT-L-14",
        "dfn2b_s39b": "apple/DFN2B-CLIP-ViT-L-14-39B",
    },
    "ViT-H-14": {"laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"},
}
"""Weights of others than OpenAI, by architecture (without ending) and tag."""

TAGS: dict[str, dict[str, str]] = {
    name: {**({"openai": _OPENAI[name]} if name in _OPENAI else {}), **_OTHERS.get(name, {})}
    for name in _BASE
}
"""Repositories of the hub by architecture (without ending) and tag."""
