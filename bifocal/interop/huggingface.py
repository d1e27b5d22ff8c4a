"""Hugging Face's folders: what `CLIPModel.save_pretrained` and `CLIPProcessor` write and read.

Knows transformers' tables and their defaults; knows nothing of how weights are stored. A folder
says its architecture, activation and preprocessing itself; what bifocal's towers do not have is
refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from bifocal.errors import CheckpointError
from bifocal.inputs.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from bifocal.interop.huggingface_config import format_config, parse_config
from bifocal.interop.keys import to_huggingface, to_openai
from bifocal.interop.source import MALFORMED, Hints, assemble, check_activation
from bifocal.interop.vocabulary import find_tokenizer, write_files
from bifocal.interop.weights import Weights, read_sharded, read_weights
from bifocal.model.config import CLIPConfig
from bifocal.pretrained import Pretrained

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEX = "model.safetensors.index.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
BICUBIC = 3
"""Pillow's number of bicubic interpolation."""

_SWITCHES = ("do_resize", "do_center_crop", "do_normalize")
Table = Mapping[str, Any]


def read(folder: Path, hints: Hints) -> Pretrained:
    """Return the model in a folder of Hugging Face's.

    Raises:
        CheckpointError: it is damaged, or asks for what bifocal's towers do not have.
        TokenizerError: no vocabulary was found for it.
    """
    config, preprocess = read_config(folder)
    check_activation(hints, folder / CONFIG, config.activation)
    state = to_openai(_read_weights(folder).state)
    tokenizer = find_tokenizer(config.text_transformer, hints, folder, folder)
    return assemble(config, state, tokenizer, preprocess, folder)


def read_config(folder: Path) -> tuple[CLIPConfig, Preprocess]:
    """Return the architecture and the preprocessing that a folder of Hugging Face's describes.

    Raises:
        CheckpointError: the description is damaged, or asks for what bifocal does not have.
    """
    path = folder / CONFIG
    try:
        config = parse_config(json.loads(path.read_text("utf-8")), path)
        return config, _read_preprocess(folder, config)
    except MALFORMED as error:
        raise CheckpointError(f"{folder} is no folder of a CLIPModel: {error}") from None


def write(pretrained: Pretrained, folder: Path) -> None:
    """Write what `CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained` open.

    Raises:
        CheckpointError: the model has what `CLIPModel` has not, or it cannot be written.
    """
    config = format_config(pretrained.clip.config)
    state = {n: t.contiguous() for n, t in to_huggingface(pretrained.model.state_dict()).items()}
    processor = format_preprocess(pretrained.preprocess)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        (folder / PROCESSORS[0]).write_text(json.dumps(processor, indent=2) + "\n", "utf-8")
        write_files(pretrained.tokenizer, folder)
        save_file(state, folder / WEIGHTS[0], metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write Hugging Face's files to {folder}: {error}") from None


def format_preprocess(preprocess: Preprocess) -> dict[str, Any]:
    """Return a preprocessing as the table of transformers' `CLIPImageProcessor`."""
    size = preprocess.image_size
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def parse_preprocess(table: Table, image_size: int, origin: Path) -> Preprocess:
    """Return the preprocessing of a `CLIPImageProcessor`, whose defaults are OpenAI's.

    Raises:
        CheckpointError: pictures are to be prepared in a way that bifocal does not.
    """
    size, crop = table.get("size", image_size), table.get("crop_size", image_size)
    got = {
        "size": size.get("shortest_edge") if isinstance(size, dict) else size,
        "crop_size": (crop["height"], crop["width"]) if isinstance(crop, dict) else (crop, crop),
        "resample": table.get("resample", BICUBIC),
        "rescale_factor": round(table.get("rescale_factor", 1 / 255) * 255, 6),
        **{key: table.get(key, True) for key in _SWITCHES},
    }
    expected = {
        "size": image_size,
        "crop_size": (image_size, image_size),
        "resample": BICUBIC,
        "rescale_factor": 1.0,
        **dict.fromkeys(_SWITCHES, True),
    }
    wrong = [f"{key} = {got[key]!r}" for key in got if got[key] != expected[key]]
    if wrong:
        raise CheckpointError(
            f"{origin} asks for {', '.join(wrong)}: bifocal resizes the shorter side to the "
            f"model's {image_size} pixels by bicubic interpolation and crops the centre"
        )
    mean, std = table.get("image_mean", OPENAI_MEAN), table.get("image_std", OPENAI_STD)
    return Preprocess(image_size=image_size, mean=tuple(mean), std=tuple(std))


def _read_preprocess(folder: Path, config: CLIPConfig) -> Preprocess:
    size = config.vision.image_size
    for path in (folder / name for name in PROCESSORS):
        if path.is_file():
            table = json.loads(path.read_text("utf-8"))
            return parse_preprocess(table.get("image_processor", table), size, path)
    return parse_preprocess({}, size, folder)


def _read_weights(folder: Path) -> Weights:
    if (folder / INDEX).is_file():
        return read_sharded(folder / INDEX)
    for name in WEIGHTS:
        if (folder / name).is_file():
            return read_weights(folder / name)
    raise CheckpointError(f"no weights in {folder}: expected {' or '.join(WEIGHTS)}")
