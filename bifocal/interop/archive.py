"""torch's zip archives, read without running what is in them.

OpenAI published TorchScript archives: a zip with code, one pickle (`data.pkl`) that describes a
tree of modules, and one uncompressed entry a storage. Here the code is never looked at, the
pickle may name nothing but tensors and containers, and storages are mapped from the file, copy on
write. Entry names never become paths. Knows bytes and tensors; knows nothing of CLIP.
"""

from __future__ import annotations

import io
import mmap
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import torch
from torch import Tensor

from bifocal.errors import CheckpointError

MAX_PICKLE = 1 << 26
"""Bytes of a pickle; the description of the largest published model takes a hundredth."""
MAX_ENTRIES = 1 << 16
MAX_DEPTH = 64
CODE = ("code",)
"""Where a TorchScript archive keeps its program."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class ZipArchive:
    """A zip file whose directory has been checked, mapped into memory.

    Args:
        path: the file; a truncated one has no directory.

    Raises:
        CheckpointError: it is damaged, or made to harm whoever unpacks it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
                with zipfile.ZipFile(file) as archive:
                    entries = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
            raise CheckpointError(
                f"{path} is a damaged or truncated archive ({error}): get it again"
            ) from None
        self._check(entries)
        root = PurePosixPath(entries[0].filename).parts[0]
        self._entries = {e.filename.removeprefix(f"{root}/"): e for e in entries}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def size(self, name: str) -> int:
        """Return the bytes of an entry."""
        return self._entry(name).file_size

    def read(self, name: str) -> bytes:
        """Return a copy of an entry."""
        start, size = self._span(name)
        return self._bytes[start : start + size]

    def tensor(self, name: str, dtype: torch.dtype, count: int) -> Tensor:
        """Return the first `count` numbers of an entry, mapped rather than read."""
        start, size = self._span(name)
        if count * dtype.itemsize > size:
            self._refuse(f"'{name}' holds {size} bytes, {count} of {dtype} were promised")
        if not count:
            return torch.empty(0, dtype=dtype)
        if start % dtype.itemsize:
            copied = bytearray(self._bytes[start : start + size])
            return torch.frombuffer(copied, dtype=dtype, count=count)
        return torch.frombuffer(self._bytes, dtype=dtype, count=count, offset=start)

    def _check(self, entries: list[zipfile.ZipInfo]) -> None:
        if not entries or len(entries) > MAX_ENTRIES:
            self._refuse(f"it lists {len(entries)} entries")
        for entry in entries:
            name = PurePosixPath(entry.filename)
            if name.is_absolute() or ".." in name.parts or "\\" in entry.filename:
                self._refuse(f"the entry '{entry.filename}' points outside of the archive")
            if name.parts[1:2] == CODE:
                continue  # the only compressed part; nothing ever reads it
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                self._refuse(
                    f"the entry '{entry.filename}' is compressed or encrypted, which torch does to "
                    "no weights: it may be a zip bomb"
                )
        claimed = sum(e.file_size for e in entries if e.compress_type == zipfile.ZIP_STORED)
        if claimed > len(self._bytes):
            self._refuse(f"its entries claim {claimed} bytes of a file of {len(self._bytes)}")

    def _span(self, name: str) -> tuple[int, int]:
        """Return where an entry's bytes start, and how many there are."""
        entry = self._entry(name)
        header = self._bytes[entry.header_offset : entry.header_offset + _LOCAL_HEADER.size]
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            self._refuse(f"'{name}' does not start where the directory says")
        _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start = entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        if start + entry.file_size > len(self._bytes):
            self._refuse(f"'{name}' ends beyond the end of the file")
        return start, entry.file_size

    def _entry(self, name: str) -> zipfile.ZipInfo:
        if name not in self._entries:
            self._refuse(f"it has no '{name}'")
        return self._entries[name]

    def _refuse(self, reason: str) -> NoReturn:
        raise CheckpointError(f"{self.path} is not a sound torch archive: {reason}")


def read_torchscript(archive: ZipArchive) -> dict[str, Tensor]:
    """Return every tensor of a TorchScript archive by its path in the tree of modules.

    Raises:
        CheckpointError: the archive is damaged, or its pickle names what is not a tensor's.
    """
    if archive.size("data.pkl") > MAX_PICKLE:
        raise CheckpointError(f"{archive.path}: a description of {archive.size('data.pkl')} bytes")
    if "byteorder" in archive and archive.read("byteorder") != b"little":
        raise CheckpointError(f"{archive.path} was written on a big-endian machine: save it anew")
    raw = archive.read("data.pkl")
    try:
        _check_memo(raw)
        tree = _Unpickler(raw, archive).load()
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - a hostile pickle can raise anything
        raise CheckpointError(
            f"{archive.path} holds a damaged description of its modules ({error})"
        ) from None
    return dict(_walk(tree, "", 0))


class _Module:
    """Stands for an object of the archive's own classes: a name and a dict, nothing to run."""

    def __init__(self) -> None:
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """An unpickler that builds tensors, containers and inert modules, and refuses all else."""

    def __init__(self, raw: bytes, archive: ZipArchive) -> None:
        super().__init__(io.BytesIO(raw), encoding="utf-8")
        self._archive = archive
        self._globals: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *rest: data,
            **{("torch", name): dtype for name, dtype in _DTYPES.items()},
            **{("torch.jit._pickle", name): _first for name in _PICKLED_LISTS},
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return an inert stand-in for a class of the archive, or an allowed name."""
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if (module, name) not in self._globals:
            raise CheckpointError(
                f"{self._archive.path} asks to run '{module}.{name}', which no weights need: it is "
                "not what it claims to be, and nothing of it was run"
            )
        return self._globals[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the storage that an entry of the archive holds, as one flat tensor."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not str(key).isalnum():
            raise CheckpointError(f"{self._archive.path} holds a storage of unknown kind: {pid!r}")
        return self._archive.tensor(f"data/{key}", dtype, int(count))


_PICKLED_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
_first: Callable[..., Any] = lambda value, *rest: value  # noqa: E731


def _rebuild_tensor(storage: Tensor, offset: int, size: Any, stride: Any, *rest: Any) -> Tensor:
    """Return a view of a flat storage; torch checks that it stays inside."""
    return storage.as_strided(tuple(size), tuple(stride), int(offset))


def _check_memo(raw: bytes) -> None:
    """Refuse a pickle whose memo numbers alone would make the unpickler take all memory."""
    for opcode, argument, _ in pickletools.genops(raw):
        if "PUT" in opcode.name and isinstance(argument, int) and argument > len(raw):
            raise CheckpointError("the description of the modules is a memory bomb")


def _walk(node: Any, path: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if depth > MAX_DEPTH:
        raise CheckpointError("the modules of the archive are nested without end")
    match node:
        case Tensor():
            yield path, node
        case _Module():
            yield from _walk(node.state, path, depth)
        case dict():
            for name, child in node.items():
                yield from _walk(child, f"{path}.{name}" if path else str(name), depth + 1)
        case _:
            return  # numbers, strings and lists are attributes of modules, not weights
