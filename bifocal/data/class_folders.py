"""Pictures in one folder a class: ROOT/CLASS/*.jpg, at any depth below the class.

Labels are the folders' places in the alphabetical order of their names, as torchvision's
ImageFolder has them. A folder's name is its class's, with `_` read as a space. What is hidden
(`.cache`, `__MACOSX`) is left out; a folder without pictures is still a class to choose from.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from bifocal.data.pairing import PICTURES
from bifocal.data.sample import Sample
from bifocal.errors import ConfigError, DataError
from bifocal.inputs.prompts import prompts

HIDDEN = (".", "__")


class ClassFolderSource:
    """Labelled pictures of a folder of folders, sorted by path, each class as one shard.

    Args:
        root: holds one folder a class.
        class_names: what labels mean, in the order of the folders; the folders' names if empty.
        templates: sentences for the names, so that the pictures have captions.

    Raises:
        ConfigError: there are more or fewer names than folders.
        DataError: there is no folder, or no picture in any.
    """

    def __init__(
        self, root: Path, class_names: Sequence[str] = (), templates: Sequence[str] = ()
    ) -> None:
        self._root = root
        self.folders = class_folders(root)
        """Names of the folders, in the order of the labels."""
        self.class_names = tuple(class_names) or tuple(
            name.replace("_", " ") for name in self.folders
        )
        if len(self.class_names) != len(self.folders):
            raise ConfigError(
                f"{len(self.class_names)} class names for the {len(self.folders)} folders of "
                f"{root}: give one a folder, in their alphabetical order"
            )
        filled = prompts(self.class_names, templates) if templates and self.class_names else []
        self._captions = [tuple(row) for row in filled] or [()] * len(self.folders)
        found = [_pictures(root / name) for name in self.folders]
        self._paths = [path for paths in found for path in paths]
        self._labels = [label for label, paths in enumerate(found) for _ in paths]
        self.shard_sizes = tuple(len(paths) for paths in found)
        if not self._paths:
            raise DataError(f"no picture in the folders of {root}: expected CLASS/NAME.jpg")
        self.identity = self._identity(templates)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> Sample:
        """Return sample `index`.

        Raises:
            DataError: its picture cannot be read.
        """
        path, label = self._paths[index], self._labels[index]
        try:
            image = path.read_bytes()
        except OSError:
            raise DataError("missing picture") from None
        return Sample(self._key(path), image, self._captions[label], label)

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the captions of sample `index`, one a template."""
        return self._captions[self._labels[index]]

    def place(self, index: int) -> str:
        """Return the name of the folder that holds sample `index`."""
        return self.folders[self._labels[index]]

    def _key(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _identity(self, templates: Sequence[str]) -> str:
        # Sizes stand for contents: reading every picture of a data set would take its evaluation.
        digest = hashlib.sha256(repr((self.class_names, self.folders, tuple(templates))).encode())
        for path in self._paths:
            key = self._key(path).encode("utf-8", "surrogateescape")
            digest.update(key + f"/{path.stat().st_size};".encode())
        return digest.hexdigest()


def class_folders(root: Path) -> tuple[str, ...]:
    """Return the names of the folders in `root` that can be classes, in alphabetical order.

    Raises:
        DataError: there is none.
    """
    try:
        names = sorted(path.name for path in root.iterdir() if path.is_dir())
    except OSError as error:
        raise DataError(f"cannot read the folder {root}: {error.strerror}") from None
    names = [name for name in names if not name.startswith(HIDDEN)]
    if not names:
        raise DataError(f"no folder in {root}: pictures of a class lie in {root}/CLASS")
    return tuple(names)


def has_class_folders(root: Path) -> bool:
    """Return whether two folders in `root` hold a picture, at any depth: one is no choice."""
    try:
        holding = (name for name in class_folders(root) if next(_walk(root / name), None))
        return len(list(itertools.islice(holding, 2))) == 2
    except DataError:
        return False


def _pictures(folder: Path) -> list[Path]:
    return sorted(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
        for name in names:
            if not name.startswith(".") and name.rpartition(".")[2].lower() in PICTURES:
                yield Path(place) / name
