"""The named architectures: what they weigh, cost and call their parameters."""

from __future__ import annotations

import pytest
import torch

from bifocal.errors import ConfigError
from bifocal.model import zoo
from bifocal.model.clip import CLIP
from bifocal.model.config import (
    CLIPConfig,
    ModifiedResNetConfig,
    TextConfig,
    VisionTransformerConfig,
)

# Origin: numel of OpenAI's published state dicts (DESIGN section 4).
PARAMETERS = {
    "RN50": (38_316_896, 102_007_137),
    "RN101": (56_259_936, 119_688_033),
    "RN50x4": (87_137_080, 178_300_601),
    "RN50x16": (167_328_912, 290_979_217),
    "RN50x64": (420_380_352, 623_258_305),
    "ViT-B/32": (87_849_216, 151_277_313),
    "ViT-B/16": (86_192_640, 149_620_737),
    "ViT-L/14": (303_966_208, 427_616_513),
    "ViT-L/14@336px": (304_293_888, 427_944_193),
}
# Origin: column gflops of open_clip's docs/model_profile.csv (fvcore, so a multiply-add is one).
# Its ResNets pool with all queries where one is read, so only transformers compare.
GFLOPS = {"ViT-B/32": 14.78, "ViT-B/16": 41.09, "ViT-L/14": 175.33, "ViT-L/14@336px": 395.22}


@pytest.mark.golden
def test_published_models_weigh_and_cost_what_is_published():
    assert PARAMETERS.keys() == zoo.PUBLISHED.keys()
    for name, (visual, total) in PARAMETERS.items():
        size = zoo.measure(zoo.config(name))
        assert (size.visual_parameters, size.total_parameters) == (visual, total), name
        if name in GFLOPS:
            assert round(size.gflops + spared(zoo.config(name)), 2) == GFLOPS[name], name


def spared(config: CLIPConfig) -> float:
    """GFLOPs of what nobody reads of the last blocks: all but keys and values of the other tokens.

    Their queries, the way out of the attention and the MLP are 1 + 1 + 8 matrices of width².
    """
    vision, text = config.vision, config.text
    assert isinstance(vision, VisionTransformerConfig)
    sizes = ((vision.patches + 1, vision.width), (text.context_length, text.width))
    return sum(2e-9 * (n - 1) * (10 * w**2 + 2 * n * w) for n, w in sizes)


@pytest.mark.golden
def test_published_text_towers_and_heads_follow_the_tables():
    # Origin: paper tables 19 and 20, and section 2.4.
    for name, config in zoo.PUBLISHED.items():
        text = config.text
        assert (text.layers, text.context_length, text.vocab_size) == (12, 77, 49_408), name
        assert text.width // text.heads == 64, name
        assert config.activation == "quick_gelu"
    assert zoo.config("RN50x64").vision.heads == 64
    assert zoo.config("RN50x16").text.heads == 12
    assert zoo.config("ViT-L/14").vision.heads == 16
    assert zoo.LEARNING_RATES["RN50x64"] == 3.6e-4
    assert zoo.LEARNING_RATES.keys() == zoo.PUBLISHED.keys()


@pytest.mark.behaviour
def test_small_models_are_small():
    for name in zoo.SMALL:
        with torch.device("meta"):
            model = CLIP(zoo.config(name))
        assert sum(p.numel() for p in model.parameters()) < 8_000_000, name


@pytest.mark.behaviour
def test_a_misspelt_architecture_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'ViT-B/32'"):
        zoo.config("ViT-B32")
    with pytest.raises(ConfigError, match=r"known are .*RN50x64"):
        zoo.config("quux")


def _block(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}.attn.in_proj_weight": (3 * width, width),
        f"{prefix}.attn.in_proj_bias": (3 * width,),
        f"{prefix}.attn.out_proj.weight": (width, width),
        f"{prefix}.attn.out_proj.bias": (width,),
        f"{prefix}.ln_1.weight": (width,),
        f"{prefix}.ln_1.bias": (width,),
        f"{prefix}.mlp.c_fc.weight": (4 * width, width),
        f"{prefix}.mlp.c_fc.bias": (4 * width,),
        f"{prefix}.mlp.c_proj.weight": (width, 4 * width),
        f"{prefix}.mlp.c_proj.bias": (width,),
        f"{prefix}.ln_2.weight": (width,),
        f"{prefix}.ln_2.bias": (width,),
    }


TEXT_SIDE = {
    "positional_embedding": (12, 16),
    "text_projection": (16, 10),
    "logit_scale": (),
    "token_embedding.weight": (600, 16),
    "ln_final.weight": (16,),
    "ln_final.bias": (16,),
    **_block("transformer.resblocks.0", 16),
    **_block("transformer.resblocks.1", 16),
}
TEXT = TextConfig(context_length=12, vocab_size=600, width=16, layers=2, heads=2)


def _shapes(config: CLIPConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in CLIP(config).state_dict().items()}


@pytest.mark.golden
def test_parameters_of_a_vit_have_openais_names_and_shapes():
    # Origin: the state dict of openai/CLIP, clip/model.py, classes VisionTransformer and CLIP.
    vision = VisionTransformerConfig(image_size=16, patch_size=8, width=24, layers=1, heads=2)
    assert _shapes(CLIPConfig(embed_dim=10, vision=vision, text=TEXT)) == {
        **TEXT_SIDE,
        "visual.class_embedding": (24,),
        "visual.positional_embedding": (5, 24),
        "visual.proj": (24, 10),
        "visual.conv1.weight": (24, 3, 8, 8),
        "visual.ln_pre.weight": (24,),
        "visual.ln_pre.bias": (24,),
        "visual.ln_post.weight": (24,),
        "visual.ln_post.bias": (24,),
        **_block("visual.transformer.resblocks.0", 24),
    }


def _norm(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    four = ("weight", "bias", "running_mean", "running_var")
    return {f"{prefix}.{n}": (width,) for n in four} | {f"{prefix}.num_batches_tracked": ()}


def _bottleneck(prefix: str, inplanes: int, planes: int, down: bool) -> dict[str, tuple[int, ...]]:
    shapes = {
        f"{prefix}.conv1.weight": (planes, inplanes, 1, 1),
        **_norm(f"{prefix}.bn1", planes),
        f"{prefix}.conv2.weight": (planes, planes, 3, 3),
        **_norm(f"{prefix}.bn2", planes),
        f"{prefix}.conv3.weight": (4 * planes, planes, 1, 1),
        **_norm(f"{prefix}.bn3", 4 * planes),
    }
    if down:
        shapes[f"{prefix}.downsample.0.weight"] = (4 * planes, inplanes, 1, 1)
        shapes |= _norm(f"{prefix}.downsample.1", 4 * planes)
    return shapes


@pytest.mark.golden
def test_parameters_of_a_resnet_have_openais_names_and_shapes():
    # Origin: the state dict of openai/CLIP, clip/model.py, classes ModifiedResNet and CLIP.
    vision = ModifiedResNetConfig(image_size=64, width=4, layers=(1, 2, 1, 1), heads=4)
    assert _shapes(CLIPConfig(embed_dim=10, vision=vision, text=TEXT)) == {
        **TEXT_SIDE,
        "visual.conv1.weight": (2, 3, 3, 3),
        **_norm("visual.bn1", 2),
        "visual.conv2.weight": (2, 2, 3, 3),
        **_norm("visual.bn2", 2),
        "visual.conv3.weight": (4, 2, 3, 3),
        **_norm("visual.bn3", 4),
        **_bottleneck("visual.layer1.0", 4, 4, down=True),
        **_bottleneck("visual.layer2.0", 16, 8, down=True),
        **_bottleneck("visual.layer2.1", 32, 8, down=False),
        **_bottleneck("visual.layer3.0", 32, 16, down=True),
        **_bottleneck("visual.layer4.0", 64, 32, down=True),
        "visual.attnpool.positional_embedding": (5, 128),
        **{f"visual.attnpool.{n}_proj.weight": (128, 128) for n in "kqv"},
        **{f"visual.attnpool.{n}_proj.bias": (128,) for n in "kqv"},
        "visual.attnpool.c_proj.weight": (10, 128),
        "visual.attnpool.c_proj.bias": (10,),
    }


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 30, "patch_size": 8, "width": 24, "layers": 1, "heads": 2}, "multiple"),
        ({"image_size": 16, "patch_size": 8, "width": 25, "layers": 1, "heads": 2}, "heads 2"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        VisionTransformerConfig(**settings)
    with pytest.raises(ValueError, match="multiple of 32"):
        ModifiedResNetConfig(image_size=48, width=4, layers=(1, 1, 1, 1), heads=4)
    with pytest.raises(ValueError, match="odd"):
        ModifiedResNetConfig(image_size=64, width=3, layers=(1, 1, 1, 1), heads=4)
