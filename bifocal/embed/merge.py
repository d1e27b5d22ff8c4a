"""Blocks in order become the files of a finished folder.

Every file is written under another name, synced, and renamed; the table that says the folder is
finished comes last. Stopped at any moment, it is done again from the blocks, which are still there.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bifocal.embed.columns import COLUMNS, LINES, SKIPPED, Block, file_name, read_block
from bifocal.errors import CheckpointError


class Writer:
    """One file that grows by the arrays of blocks."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.length = 0
        self._final = folder / file_name(name)
        self._unfinished = folder / f".{file_name(name)}.unfinished"
        self._file: BinaryIO = self._unfinished.open("wb")
        self._shape: tuple[int, ...] | None = None
        self._dtype = np.dtype(np.float32)
        self._header = 0

    def append(self, array: np.ndarray, shift: int) -> None:
        """Write an array behind the others, its numbers moved by `shift`."""
        if self.name not in LINES and self._shape is None:
            self._shape, self._dtype = array.shape[1:], array.dtype
            self._write_header()
        self._file.write(np.ascontiguousarray(array + shift if shift else array).tobytes())
        self.length += len(array)

    def finish(self) -> None:
        """Make the file whole and give it its name."""
        if self.name not in LINES:
            self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._unfinished.replace(self._final)

    def abandon(self) -> None:
        """Remove what was not finished."""
        self._file.close()
        self._unfinished.unlink(missing_ok=True)

    def _write_header(self) -> None:
        # numpy's header leaves room for the first axis to grow, so it keeps its size.
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self.length, *(self._shape or ())),
            },
        )
        assert self._header in (0, self._file.tell()), "the header of an array kept its size"
        self._header = self._file.tell()
        self._file.seek(0, os.SEEK_END)


def merge(blocks: Iterable[Path], folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Write the files of a folder from its blocks, in order.

    Returns:
        how long each column is, and how many samples were left out, by reason.

    Raises:
        CheckpointError: a block is missing or damaged.
        OSError: the disk is full or the folder cannot be written.
    """
    writers: dict[str, Writer] = {}
    skipped: Counter[str] = Counter()
    try:
        for path in blocks:
            block = read_block(path)
            if block is None:
                raise CheckpointError(
                    f"{path} is missing or damaged: run the same command again, which makes it anew"
                )
            for name in COLUMNS:
                if name in block and name not in writers:
                    writers[name] = Writer(folder, name)
            _append(block, writers)
            skipped.update(json.loads(block[SKIPPED].tobytes()))
        for writer in writers.values():
            writer.finish()
    except BaseException:
        for writer in writers.values():
            writer.abandon()
        raise
    return {name: one.length for name, one in writers.items()}, dict(sorted(skipped.items()))


def _append(block: Block, writers: dict[str, Writer]) -> None:
    lengths = {COLUMNS[name].counts: writer.length for name, writer in writers.items()}
    for name, writer in writers.items():
        if name not in block:
            raise CheckpointError(
                f"a block of unfinished work has no {name}: another release began it. Remove the "
                "folder and embed again"
            )
        target = COLUMNS[name].points_into
        writer.append(block[name], lengths[target] if target else 0)
