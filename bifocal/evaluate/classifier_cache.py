"""Zero-shot classifiers that were built before, by the hash of all that decides them.

The key is over the text tower's weights and architecture, the tokenizer and the prompts; neither
the image tower nor the temperature is in a classifier. Files are safetensors, written whole or not
at all, checked when read; one that is damaged is built anew. The folder is kept below a size by
removing what was used least recently.

Knows files and hashes; knows nothing of how classifiers are built.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from bifocal.files import write_atomically
from bifocal.identity import fingerprint, hash_tensors, hash_tokenizer
from bifocal.pretrained import Pretrained

VERSION = "bifocal.classifier/1"
SUFFIX = ".safetensors"
MAX_BYTES = 256 * 2**20
_WEIGHTS, _CHECK = "weights", "sha256"
_NOT_TEXT = ("visual.", "image_head.", "logit_scale", "logit_bias")

_log = logging.getLogger(__name__)


def user_cache() -> Path | None:
    """Return the folder for classifiers in the user's cache, or None where the user has none."""
    root = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(root) if root else Path.home() / ".cache") / "bifocal" / "classifiers"
    except RuntimeError:
        return None


def classifier_key(pretrained: Pretrained, prompts: Sequence[Sequence[str]]) -> str:
    """Return the hash of what decides a classifier.

    The device's kind is part of it: sums are rounded differently there.
    """
    model = pretrained.model
    state = model.state_dict().items()
    config = model.config
    return fingerprint(
        [
            VERSION,
            hash_tensors({n: tensor for n, tensor in state if not n.startswith(_NOT_TEXT)}),
            [config.text.model_dump(mode="json"), config.embed_dim, config.activation],
            hash_tokenizer(pretrained.tokenizer),
            pretrained.device.type,
            [list(row) for row in prompts],
        ]
    )


@dataclass(frozen=True, slots=True)
class ClassifierCache:
    """Classifiers in a folder, at most `max_bytes` of them."""

    folder: Path
    max_bytes: int = MAX_BYTES

    def read(self, key: str, classes: int, embed_dim: int) -> Float[Tensor, "classes dim"] | None:
        """Return the classifier of a key, or None where there is none that is whole."""
        path = self._path(key)
        try:
            found = safetensors.torch.load(path.read_bytes())
            weights, check = found[_WEIGHTS], found[_CHECK]
            whole = weights.shape == (classes, embed_dim) and weights.dtype.is_floating_point
            if not whole or bytes(check.tolist()).hex() != hash_tensors({key: weights}):
                raise ValueError("it does not hold what its name says")
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            _log.warning("the classifier kept in %s is built anew: %s", path, error)
            return None
        with contextlib.suppress(OSError):  # a folder that is only read has no order of use
            os.utime(path)
        return weights

    def write(self, key: str, weights: Float[Tensor, "classes embed_dim"]) -> None:
        """Keep a classifier; where that cannot be, say so once and go on."""
        check = weights.new_tensor(list(bytes.fromhex(hash_tensors({key: weights})))).byte()
        data = safetensors.torch.save({_WEIGHTS: weights.contiguous(), _CHECK: check})
        if len(data) > self.max_bytes:
            return
        try:
            write_atomically(self._path(key), data)
            self._make_room()
        except OSError as error:
            _log.warning("cannot keep the classifier in %s: %s", self.folder, error.strerror)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _make_room(self) -> None:
        used = 0
        for _, size, path in sorted(_files(self.folder), reverse=True):
            used += size
            if used > self.max_bytes:
                path.unlink(missing_ok=True)


def _files(folder: Path) -> Iterable[tuple[int, int, Path]]:
    """Yield (time of use, size, path) of the classifiers in a folder; others' files are not."""
    for path in folder.glob(f"*{SUFFIX}"):
        if len(path.stem) == 64:
            with contextlib.suppress(FileNotFoundError):  # another process may make room too
                stat = path.stat()
                yield stat.st_mtime_ns, stat.st_size, path
