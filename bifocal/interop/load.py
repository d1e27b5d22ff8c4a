"""One way in: whatever holds a CLIP becomes a `Pretrained`, told by what it is, not by its name.

Folders are bifocal's, open_clip's or Hugging Face's by the configuration that they hold; files by
their first bytes; published names and repositories of the hub are fetched first.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from bifocal import pretrained
from bifocal.errors import CheckpointError, did_you_mean
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.interop import hub, huggingface, open_clip, open_clip_config, openai
from bifocal.interop.huggingface_config import MODEL_TYPE, parse_config
from bifocal.interop.source import MALFORMED, Hints
from bifocal.interop.vocabulary import find_tokenizer
from bifocal.model import zoo
from bifocal.model.config import Activation, CLIPConfig
from bifocal.pretrained import Pretrained

HUB_PREFIX = "hf-hub:"
PUBLISHED_ACTIVATION: Activation = "quick_gelu"


def load(
    source: str | Path,
    device: str | torch.device = "cpu",
    *,
    activation: Activation | None = None,
    architecture: CLIPConfig | str | Path | None = None,
    vocabulary: Tokenizer | str | Path | None = None,
    cache_dir: str | Path | None = None,
    offline: bool = False,
) -> Pretrained:
    """Return the model that `source` holds or names, ready to encode.

    Args:
        source: a run, checkpoint or saved model of bifocal's; a folder of open_clip's or Hugging
            Face's; a file of weights; a published name (`ViT-B/32`); `owner/name` on the hub.
        device: where the weights go.
        activation: of a bare state dict, which cannot say it.
        architecture: of a bare state dict whose heads are not 64 channels wide: itself, a name of
            the zoo, or a configuration of open_clip's or Hugging Face's in a JSON file.
        vocabulary: for a source without one, where the published one is not installed.
        cache_dir: where downloads are kept.
        offline: whether nothing may be downloaded; `HF_HUB_OFFLINE=1` says the same.

    Raises:
        CheckpointError: there is no such model, it is damaged, or something must be said that the
            source does not say.
        TokenizerError: no vocabulary was found for it.
    """
    given = Path(vocabulary) if isinstance(vocabulary, str) else vocabulary
    cache = Path(cache_dir) if cache_dir is not None else None
    hints = Hints(activation, read_architecture(architecture), given, cache, offline)
    return _to(read(source, hints), device)


def read(source: str | Path, hints: Hints) -> Pretrained:
    """Return the model of `source` on the CPU; see `load`."""
    path = Path(source)
    if path.is_dir():
        return read_folder(path, hints)
    if path.is_file():
        return openai.read(path, hints)
    return _read_named(str(source), hints)


def read_folder(folder: Path, hints: Hints) -> Pretrained:
    """Return the model in a folder, whoever wrote it.

    Raises:
        CheckpointError: nobody that bifocal knows wrote it.
    """
    if (folder / open_clip.CONFIG).is_file():
        own = any((folder / name).is_file() for name in open_clip.WEIGHTS)
        if own or _model_type(folder) != MODEL_TYPE:
            return open_clip.read(folder, hints)
    if _model_type(folder) is not None:
        return huggingface.read(folder, hints)
    return pretrained.load(folder)


def read_architecture(given: CLIPConfig | str | Path | None) -> CLIPConfig | None:
    """Return the architecture of a name of the zoo, or of a JSON file of open_clip's or
    Hugging Face's; one that is none of these stays what it is.

    Raises:
        CheckpointError: the file cannot be read, or asks for what bifocal's towers do not have.
        ConfigError: no architecture has that name.
    """
    if given is None or isinstance(given, CLIPConfig):
        return given
    path = Path(given)
    if not path.is_file():
        return zoo.config(str(given))
    try:
        table = json.loads(path.read_text("utf-8"))
        if "model_type" in table:
            return parse_config(table, path)
        return open_clip_config.parse_config(table.get("model_cfg", table), path)
    except MALFORMED as error:
        raise CheckpointError(f"{path} describes no CLIP: {error}") from None


def read_tokenizer(folder: Path, hints: Hints) -> Tokenizer:
    """Return the tokenizer of a folder of open_clip's or Hugging Face's, weights or none.

    Raises:
        CheckpointError: the folder has no configuration.
        TokenizerError: no vocabulary was found for it.
    """
    if (folder / open_clip.CONFIG).is_file():
        text = open_clip.read_config(folder)[0].text_transformer
    elif _model_type(folder) is not None:
        text = huggingface.read_config(folder)[0].text_transformer
    else:
        return pretrained.load(folder).tokenizer
    return find_tokenizer(text, hints, folder, folder)


def _read_named(name: str, hints: Hints) -> Pretrained:
    """Return a model of the hub, by its published name or its repository's."""
    if name in hub.REPOSITORIES:
        folder = _fetch(hub.REPOSITORIES[name], hints)
        stated = hints.activation or PUBLISHED_ACTIVATION
        return read_folder(folder, replace(hints, activation=stated))
    repository = name.removeprefix(HUB_PREFIX)
    explicit = repository != name
    hint = did_you_mean(name, hub.REPOSITORIES)
    if hub.is_repository(repository) and (explicit or not Path(name).parent.exists()):
        try:
            folder = _fetch(repository, hints)
        except CheckpointError as error:
            raise CheckpointError(f"{error}{hint}") from None
        return read_folder(folder, hints)
    raise CheckpointError(
        f"no file or folder '{name}', and no published model of that name{hint}. Published are "
        f"{', '.join(hub.REPOSITORIES)}; a repository of the hub is written owner/name"
    )


def _fetch(repository: str, hints: Hints) -> Path:
    known = (*open_clip.WEIGHTS, *huggingface.WEIGHTS)
    return hub.fetch(repository, known, hints.cache_dir, hints.offline)


def _model_type(folder: Path) -> str | None:
    """Return what transformers' config.json says a folder holds, or None if it says nothing."""
    path = folder / huggingface.CONFIG
    if not path.is_file():
        return None
    try:
        stated = json.loads(path.read_text("utf-8")).get("model_type")
    except MALFORMED as error:
        raise CheckpointError(f"{path} is no configuration: {error}") from None
    return stated if isinstance(stated, str) else None


def _to(model: Pretrained, device: str | torch.device) -> Pretrained:
    return Pretrained(model.model.to(device), model.tokenizer, model.preprocess)
