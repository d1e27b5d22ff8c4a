"""The face of `clip_benchmark`: its own program evaluates bifocal's models.

    python -m bifocal.compat.clip_benchmark eval --model_type bifocal --model name \\
        --pretrained runs/demo --dataset wds/cifar10 --dataset_root data --no_amp

The package takes loaders from a table (`clip_benchmark.models.TYPE2FUNC`); `register` enters
bifocal's there, for programs that call the package themselves. Pictures are read as its own models
read them: resized by Pillow.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import torch

from bifocal.compat import open_clip
from bifocal.compat.open_clip_tags import ARCHITECTURES
from bifocal.compat.pictures import Transform
from bifocal.compat.tokens import OpenClipTokenizer
from bifocal.compat.towers import OpenClipModel, open_clip_model
from bifocal.errors import BifocalError, ConfigError
from bifocal.interop import load as loading

MODEL_TYPE = "bifocal"

__all__ = ["MODEL_TYPE", "load", "main", "register"]


def load(
    model_name: str = "",
    pretrained: str = "",
    cache_dir: str | None = None,
    device: str | torch.device = "cpu",
) -> tuple[OpenClipModel, Transform, OpenClipTokenizer]:
    """Return a model, what it does to a Pillow picture, and its tokenizer.

    Args:
        model_name: an architecture of open_clip's where `pretrained` is a tag or a file of weights;
            otherwise only how results are called, or the model itself if `pretrained` is empty.
        pretrained: whatever `bifocal.load` takes: a run, a saved model of any make, a name.
        cache_dir: where downloads are kept.
        device: where the weights go.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
        RuntimeError: the architecture is open_clip's and has no such weights.
    """
    named = model_name.replace("/", "-") in ARCHITECTURES
    if named and pretrained and not Path(pretrained).is_dir():
        model, _, transform = open_clip.create_model_and_transforms(
            model_name, pretrained, cache_dir=cache_dir, device=device
        )
        return model.eval(), transform, open_clip.get_tokenizer(model_name)
    found = loading.load(pretrained or model_name, device, cache_dir=cache_dir)
    preprocess, tokenizer = found.preprocess, found.tokenizer
    model = open_clip_model(found.clip, preprocess, output_dict=False).eval()
    transform = Transform(preprocess.image_size, preprocess.mean, preprocess.std)
    return model, transform, OpenClipTokenizer(tokenizer, tokenizer.context_length)


def register(package: ModuleType | None = None) -> None:
    """Make `--model_type bifocal` known to clip_benchmark; twice is as good as once.

    Args:
        package: `clip_benchmark.models`; imported if None.

    Raises:
        ConfigError: clip_benchmark is not installed, or has no table of loaders.
    """
    try:
        if package is None:
            import clip_benchmark.models as package  # type: ignore[import-not-found]
        assert package is not None
        package.TYPE2FUNC[MODEL_TYPE] = load
        if MODEL_TYPE not in package.MODEL_TYPES:
            package.MODEL_TYPES.append(MODEL_TYPE)
    except ImportError as error:
        raise ConfigError(
            f"clip_benchmark cannot be imported ({error}): pip install clip_benchmark"
        ) from None
    except AttributeError as error:
        raise ConfigError(
            f"this clip_benchmark has no table of loaders ({error}): 1.6 is known to work"
        ) from None


def main() -> None:
    """Run clip_benchmark's own command line with bifocal's models known to it."""
    try:
        register()
        from clip_benchmark.cli import main as run  # type: ignore[import-not-found]

        run()
    except BifocalError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
