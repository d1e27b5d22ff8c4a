"""The files of a folder of features, and one block of them.

A block is a table of arrays by name. Arrays of one kind are equally long in a block; numbers that
point into another array are counted from the block's beginning, and shifted when blocks are put
together. Texts of any length are JSON lines with the position at which each ends.

    images.npy      features of pictures, a row each     indices.npy  source index of each
    labels.npy      class of each, or -1                 hashes.npy   perceptual hash of each
    thumbnails.npy  grey, 16 x 16, of each
    keys.jsonl      key of each                          key_ends.npy
    texts.npy       features of captions, a row each     owners.npy   row of the picture of each
    captions.jsonl  the captions                         caption_ends.npy
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.numpy
from jaxtyping import Int64, UInt8
from safetensors import SafetensorError

from bifocal.files import write_atomically

Count = Literal["rows", "texts", "key_bytes", "caption_bytes"]
Block = Mapping[str, np.ndarray]

SKIPPED = "skipped"
"""Array of a block that holds JSON: why samples were left out, and how many."""
_DIGEST = 32


@dataclass(frozen=True, slots=True)
class Column:
    """How long an array is, and what its numbers point into, if anything."""

    counts: Count
    points_into: Count | None = None


COLUMNS: Mapping[str, Column] = {
    "indices": Column("rows"),
    "labels": Column("rows"),
    "hashes": Column("rows"),
    "thumbnails": Column("rows"),
    "images": Column("rows"),
    "keys": Column("key_bytes"),
    "key_ends": Column("rows", "key_bytes"),
    "texts": Column("texts"),
    "owners": Column("texts", "rows"),
    "captions": Column("caption_bytes"),
    "caption_ends": Column("texts", "caption_bytes"),
}
LINES = ("keys", "captions")
"""Columns that are written as lines of text and not as an array."""


def file_name(column: str) -> str:
    """Return the name of a column's file."""
    return f"{column}.jsonl" if column in LINES else f"{column}.npy"


def lines(texts: Iterable[str]) -> tuple[UInt8[np.ndarray, " bytes"], Int64[np.ndarray, " texts"]]:
    """Return texts as JSON lines, and where each line ends."""
    encoded = [json.dumps(text).encode() + b"\n" for text in texts]
    ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), ends


def write_block(path: Path, block: Block) -> None:
    """Write a block to a file of its own, with a checksum, whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    body = safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in block.items()})
    write_atomically(path, hashlib.blake2b(body, digest_size=_DIGEST).digest() + body)


def read_block(path: Path) -> Block | None:
    """Return the block in a file; None if there is no file or it is not whole."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, body = data[:_DIGEST], data[_DIGEST:]
    if hashlib.blake2b(body, digest_size=_DIGEST).digest() != digest:
        return None
    try:
        return safetensors.numpy.load(body)
    except SafetensorError:
        return None
