"""open_clip's folders: `open_clip_config.json` beside weights, read and written.

Knows the folder; what its tables mean is `open_clip_config`'s.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from bifocal.errors import CheckpointError
from bifocal.inputs.preprocess import Preprocess
from bifocal.interop.keys import to_openai
from bifocal.interop.open_clip_config import format_config, parse_config, parse_preprocess
from bifocal.interop.source import MALFORMED, Hints, assemble, check_activation
from bifocal.interop.vocabulary import PUBLISHED_SIZE, find_tokenizer, write_files
from bifocal.interop.weights import read_weights
from bifocal.model.config import CLIPConfig
from bifocal.pretrained import Pretrained

CONFIG = "open_clip_config.json"
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
"""open_clip's own names of weights; they tell its files from transformers' in one folder."""
SHARED_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")

PUBLISHED_TOKENIZERS = "openai/clip-vit-"
"""How the repositories begin that hold OpenAI's vocabulary."""


def read(folder: Path, hints: Hints) -> Pretrained:
    """Return the model in a folder of open_clip's.

    Raises:
        CheckpointError: it is damaged, or asks for what bifocal's towers do not have.
        TokenizerError: no vocabulary was found for it.
    """
    config, preprocess = read_config(folder)
    check_activation(hints, folder / CONFIG, config.activation)
    state = to_openai(read_weights(find_weights(folder)).state)
    tokenizer = find_tokenizer(config.text_transformer, hints, folder, folder)
    return assemble(config, state, tokenizer, preprocess, folder)


def read_config(folder: Path) -> tuple[CLIPConfig, Preprocess]:
    """Return the architecture and the preprocessing that a folder of open_clip's describes.

    Raises:
        CheckpointError: the description is damaged, or asks for what bifocal does not have.
    """
    path = folder / CONFIG
    try:
        table = json.loads(path.read_text("utf-8"))
        config = parse_config(table["model_cfg"], path)
        _check_tokenizer(table["model_cfg"]["text_cfg"].get("hf_tokenizer_name"), folder)
        return config, parse_preprocess(table.get("preprocess_cfg") or {}, config, path)
    except MALFORMED as error:
        raise CheckpointError(f"{path} is no configuration of open_clip's: {error}") from None


def find_weights(folder: Path) -> Path:
    """Return the file of weights in a folder of open_clip's.

    Raises:
        CheckpointError: there is none under a name that open_clip uses.
    """
    for name in (*WEIGHTS, *SHARED_WEIGHTS):
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"no weights in {folder}: expected {WEIGHTS[0]} or {WEIGHTS[2]}")


def write(pretrained: Pretrained, folder: Path) -> None:
    """Write what open_clip opens as `local-dir:folder`.

    Raises:
        CheckpointError: it cannot be written.
    """
    config, preprocess = pretrained.clip.config, pretrained.preprocess
    table = {
        "model_cfg": format_config(config),
        "preprocess_cfg": {
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    if config.text.vocab_size != PUBLISHED_SIZE:
        table["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "."
    state = {name: tensor.contiguous() for name, tensor in pretrained.model.state_dict().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(table, indent=2) + "\n", "utf-8")
        write_files(pretrained.tokenizer, folder)
        # AutoTokenizer, which open_clip asks, wants to know whose tokenizer it is.
        (folder / "config.json").write_text(json.dumps({"model_type": "clip"}) + "\n", "utf-8")
        save_file(state, folder / WEIGHTS[0], metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write open_clip's files to {folder}: {error}") from None


def _check_tokenizer(name: str | None, folder: Path) -> None:
    """Refuse to guess a tokenizer that is named, is not OpenAI's, and is not in the folder."""
    brought = any((folder / file).is_file() for file in ("tokenizer.json", "merges.txt"))
    if name and not brought and not name.startswith(PUBLISHED_TOKENIZERS):
        raise CheckpointError(
            f"{folder / CONFIG} names the tokenizer {name}, which is not in the folder: put its "
            "tokenizer.json there"
        )
