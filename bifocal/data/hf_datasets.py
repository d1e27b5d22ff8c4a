"""A Hugging Face `datasets` folder on disk (`Dataset.save_to_disk`) as a source.

Needs the optional library: pip install 'bifocal[datasets]'. Pictures stay encoded until a loader
asks for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bifocal.data.captions import stripped
from bifocal.data.sample import Sample
from bifocal.data.tables import CAPTION_COLUMNS, IMAGE_COLUMNS
from bifocal.errors import ConfigError, DataError


class HuggingFaceSource:
    """Samples of a saved dataset with a picture column and captions or a class label.

    Args:
        folder: what `save_to_disk` wrote.
        image_column: column of pictures; found among the usual names if empty.
        caption_column: column of captions, each a text or a list of texts.

    Raises:
        ConfigError: the library is missing, or a column is.
        DataError: the folder cannot be read as a dataset.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, folder: Path, image_column: str = "", caption_column: str = "") -> None:
        try:
            import datasets
        except ModuleNotFoundError:
            raise ConfigError(
                f"{folder} is a Hugging Face dataset: pip install 'bifocal[datasets]'"
            ) from None
        try:
            dataset: Any = datasets.load_from_disk(str(folder))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read the dataset {folder}: {error}") from None
        if isinstance(dataset, datasets.DatasetDict):
            splits = ", ".join(map(str, dataset))
            raise ConfigError(f"{folder} holds the splits {splits}: name one, as {folder}/train")
        self._image = _pick(dataset.column_names, image_column, IMAGE_COLUMNS, folder)
        self._caption = _pick(dataset.column_names, caption_column, CAPTION_COLUMNS, folder)
        self._folder = folder
        self._rows = dataset.cast_column(self._image, datasets.Image(decode=False))
        self._texts = dataset.select_columns([self._caption])
        self.shard_sizes = (len(dataset),)
        self.identity = f"datasets/{dataset._fingerprint}/{self._image}/{self._caption}"

    def __len__(self) -> int:
        return self.shard_sizes[0]

    def read(self, index: int) -> Sample:
        """Return sample `index`.

        Raises:
            DataError: it has no picture or no caption.
        """
        captions = self.captions(index)
        picture = self._rows[index][self._image] or {}
        if not captions:
            raise DataError("no caption")
        encoded = picture.get("bytes")
        if encoded is None:
            try:
                encoded = Path(picture["path"]).read_bytes()
            except (OSError, KeyError, TypeError):
                raise DataError("missing picture") from None
        return Sample(str(index), encoded, captions, None)

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the captions of sample `index`."""
        return stripped(self._texts[index][self._caption])

    def place(self, index: int) -> str:
        """Return the folder's name."""
        return self._folder.name


def _pick(columns: list[str], asked: str, usual: tuple[str, ...], folder: Path) -> str:
    for name in [asked] if asked else usual:
        if name in columns:
            return name
    raise ConfigError(
        f"{folder} has no column '{asked or ' / '.join(usual)}'; its columns are {columns}: set "
        "data.image_column and data.caption_column"
    )
