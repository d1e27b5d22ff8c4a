"""CLIP_benchmark's folders of shards: pictures with labels or captions, and their prompts.

    classnames.txt                           one name a line, in the order of the labels
    zeroshot_classification_templates.txt    one template a line, `{c}` for the name
    dataset_type.txt                         "retrieval", "multilabel", or not there
    test/nshards.txt                         how many shards: 0.tar, 1.tar, …
    test/0.tar, …                            NAME.webp (.png, .jpg) beside NAME.cls, NAME.npy with
                                             a number a class if "multilabel", or NAME.txt with one
                                             caption a line if "retrieval"

Knows this layout; reads the shards as any others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bifocal.data.captions import CaptionReader
from bifocal.data.shards import ShardSource
from bifocal.errors import DataError

NAMES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"
KIND, COUNT = "dataset_type.txt", "nshards.txt"


@dataclass(frozen=True, slots=True)
class BenchmarkFolder:
    """A split of a data set, and the templates that came with it, if any."""

    source: ShardSource
    templates: tuple[str, ...]
    split: str
    multi_label: bool = False
    """Whether pictures may be of several classes."""


def is_benchmark_folder(root: Path) -> bool:
    """Return whether a folder is of this layout: splits of shards, and a word on what they are."""
    told = any((root / name).is_file() for name in (NAMES, KIND))
    return any(root.glob(f"*/{COUNT}")) or (told and any(root.glob("*/*.tar")))


def open_benchmark_folder(
    root: Path, split: str = "test", *, multi_label: bool = False
) -> BenchmarkFolder:
    """Return a split of the data set in `root`; its pictures may be of several classes if asked.

    Raises:
        DataError: a shard is missing, nothing can be read, or captions are asked for classes.
    """
    kind = _text(root / KIND).strip().lower() or "classification"
    retrieval, several = kind == "retrieval", multi_label or kind == "multilabel"
    if retrieval and several:
        raise DataError(f"{root} has captions and no classes: leave --multi-label out")
    # A line keeps its place even if it is empty: labels count lines.
    names = tuple(line.strip() for line in _text(root / NAMES).splitlines())
    if not retrieval and not names:
        raise DataError(f"{root} has no {NAMES}: one name a line, in the order of the labels")
    lines = (line.strip() for line in _text(root / TEMPLATES).splitlines())
    named = () if retrieval else names
    reader = CaptionReader(class_names=named, by_line=retrieval, multi_label=several)
    source = ShardSource(_shards(root / split), reader)
    return BenchmarkFolder(source, tuple(line for line in lines if line), split, several)


def _shards(folder: Path) -> list[Path]:
    count = _text(folder / COUNT).strip()
    if not count:
        found = sorted(folder.glob("*.tar"), key=lambda path: (len(path.name), path.name))
        if not found:
            splits = sorted({path.parent.name for path in folder.parent.glob("*/*.tar")})
            raise DataError(
                f"no shard in {folder}, expected {COUNT} and 0.tar, 1.tar, …; there are shards "
                f"for: {', '.join(splits) or 'no split'}"
            )
        return found
    if not (count.isdecimal() and int(count)):
        raise DataError(f"{folder / COUNT} holds '{count[:20]}', expected a number of shards")
    paths = [folder / f"{number}.tar" for number in range(int(count))]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of the {count} shards of {folder} are missing, as {missing[0]}: "
            "fetch them, or correct nshards.txt"
        )
    return paths


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
