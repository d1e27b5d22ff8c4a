"""The hub: published names, downloads, their cache and the proof that they are whole.

huggingface_hub does the transport (`HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, resumption of
interrupted downloads). A large file's name in its cache is its sha256 as the hub states it; here
every newly fetched one is hashed and compared before anything reads it. Knows repositories and
files; knows nothing of what is in them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from bifocal.errors import CheckpointError

REPOSITORIES: dict[str, str] = {
    "RN50": "timm/resnet50_clip.openai",
    "RN101": "timm/resnet101_clip.openai",
    "RN50x4": "timm/resnet50x4_clip.openai",
    "RN50x16": "timm/resnet50x16_clip.openai",
    "RN50x64": "timm/resnet50x64_clip.openai",
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}
"""Where the nine published models are: OpenAI's own repositories, and for the ResNets, which
transformers has no model for, open_clip's."""

DESCRIPTIONS = (
    "open_clip_config.json",
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
)
"""Small files that say what the weights are, fetched where a repository has them."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T")


def is_repository(name: str) -> bool:
    """Return whether `name` could be a repository: owner/name, in the hub's alphabet."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1


def fetch(
    repository: str, weights: Sequence[str], cache_dir: Path | None = None, offline: bool = False
) -> Path:
    """Return the cached folder of a repository with its descriptions and one file of weights.

    Args:
        repository: owner/name on the hub.
        weights: names of files of weights, the preferred first; none for descriptions alone.
        cache_dir: where files are kept; huggingface_hub's own place by default.
        offline: whether only the cache is asked.

    Raises:
        CheckpointError: it is not there, cannot be reached, has none of `weights`, or arrived
            damaged.
    """
    present = _present(repository, cache_dir, offline)
    chosen = [name for name in weights if name in present][:1]
    wanted = [name for name in DESCRIPTIONS if name in present] + chosen
    if not wanted or (weights and not chosen):
        place = "the cache" if offline or constants.HF_HUB_OFFLINE else "the hub"
        raise CheckpointError(
            f"{place} has no weights of {repository} that bifocal reads: expected one of "
            f"{', '.join(weights or DESCRIPTIONS)}"
        )
    return [fetch_file(repository, name, cache_dir, offline) for name in wanted][-1].parent


def fetch_file(
    repository: str, name: str, cache_dir: Path | None = None, offline: bool = False
) -> Path:
    """Return one file of a repository from the cache, or from the hub once.

    Raises:
        CheckpointError: it is not there, cannot be reached, or arrived damaged.
    """
    cached = try_to_load_from_cache(repository, name, cache_dir=cache_dir)
    if isinstance(cached, str):
        return Path(cached)
    path = _ask(
        repository,
        lambda: Path(
            hf_hub_download(repository, name, cache_dir=cache_dir, local_files_only=offline)
        ),
    )
    _verify(path, repository)
    return path


def _present(repository: str, cache_dir: Path | None, offline: bool) -> set[str]:
    """Return the names of a repository's files, from the hub or from the cached snapshot."""
    if not (offline or constants.HF_HUB_OFFLINE):
        return set(_ask(repository, lambda: HfApi().list_repo_files(repository)))
    for name in DESCRIPTIONS:
        cached = try_to_load_from_cache(repository, name, cache_dir=cache_dir)
        if isinstance(cached, str):
            return {path.name for path in Path(cached).parent.iterdir()}
    raise CheckpointError(
        f"{repository} is not in the cache, and nothing may be downloaded: load it once with a "
        "network, or give a folder or a file"
    )


def _verify(path: Path, repository: str) -> None:
    """Compare a fresh download with its sha256, and take it out of the cache if they differ."""
    blob = path.resolve()
    if not _SHA256.fullmatch(blob.name):
        return  # small files are named by git's own hash, which transport errors rarely survive
    with blob.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != blob.name:
        blob.unlink()
        path.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path.name} of {repository} arrived damaged: its sha256 is {digest}, expected "
            f"{blob.name}. It was removed from the cache; load again"
        )


def _ask(repository: str, question: Callable[[], T]) -> T:
    """Return the hub's answer, or say plainly why there is none."""
    try:
        return question()
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        if not constants.HF_HUB_OFFLINE and error.__cause__ is not None:
            raise _unreachable(repository, error.__cause__) from None
        reason = "is not (whole) in the cache, and nothing may be downloaded"
        raise CheckpointError(f"{repository} {reason}: load it once with a network") from None
    except GatedRepoError:
        raise CheckpointError(
            f"{repository} asks its users to accept terms: do so on the hub, then `hf auth login`"
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"the hub has no such model: {repository} ({reason})") from None
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - the transport's own errors differ by hub version
        raise _unreachable(repository, error) from None


def _unreachable(repository: str, error: BaseException) -> CheckpointError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CheckpointError(
        f"cannot fetch {repository} from {constants.ENDPOINT}: {reason}. Try again, "
        "or give a folder or a file"
    )
