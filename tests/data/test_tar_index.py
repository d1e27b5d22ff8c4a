"""Where members lie, against the standard library's tarfile; and what damage costs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocal.data.tar import BLOCK, Member, Reader, members
from bifocal.errors import DataError


def write(path: Path, files: dict[str, bytes], **options: int) -> Path:
    with tarfile.open(path, "w", **options) as archive:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def read_all(path: Path) -> dict[str, bytes]:
    reader = Reader(path)
    return {member.name: reader.read(member) for member in members(path)}


def by_tarfile(path: Path) -> list[Member]:
    with tarfile.open(path) as archive:
        return [Member(m.name, m.offset_data, m.size) for m in archive if m.isreg()]


KINDS = ("jpg", "txt")
FILES = {f"{n:03d}.{kind}": bytes([n]) * (n * 97 % 1600) for n in range(12) for kind in KINDS}
LONG = {f"{'folder/' * 20}{n}-{'x' * 90}.jpg": bytes([n]) * 700 for n in range(3)} | {
    "short.txt": b"a",
    f"{'é' * 120}.txt": b"b",
}


@pytest.mark.parity
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_index_is_tarfiles(tmp_path, format):
    path = write(tmp_path / "a.tar", FILES, format=format)
    assert list(members(path)) == by_tarfile(path)
    assert read_all(path) == FILES


@pytest.mark.parity
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_full(tmp_path, format):
    path = write(tmp_path / "a.tar", LONG, format=format)
    assert list(members(path)) == by_tarfile(path)
    assert read_all(path) == LONG


@pytest.mark.parity
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_folders_links_and_their_long_names_leave_files_alone(tmp_path, format):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=format) as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
            header = tarfile.TarInfo("d/" * 80 + "end")
            header.type = kind
            header.linkname = "elsewhere/" * 20
            archive.addfile(header)
            data = tarfile.TarInfo(f"{kind.decode()}.jpg")
            data.size = 3
            archive.addfile(data, io.BytesIO(b"abc"))
    assert list(members(path)) == by_tarfile(path)
    assert len(list(members(path))) == 3


def spans(path: Path) -> dict[str, tuple[int, int]]:
    """First and last block of each member, its header included."""
    with tarfile.open(path) as archive:
        return {m.name: (m.offset // BLOCK, (m.offset_data + m.size - 1) // BLOCK) for m in archive}


def lost(path: Path, blocks: set[int]) -> set[str]:
    return {
        name for name, (first, last) in spans(path).items() if blocks & set(range(first, last + 1))
    }


@pytest.mark.property
@given(block=st.integers(0, 60), junk=st.binary(min_size=BLOCK, max_size=BLOCK))
def test_a_garbled_block_costs_the_member_it_lies_in(tmp_path, block, junk):
    path = write(tmp_path / "a.tar", FILES)
    touched = lost(path, {block})
    raw = bytearray(path.read_bytes())
    raw[block * BLOCK : (block + 1) * BLOCK] = junk
    path.write_bytes(raw)
    found = read_all(path)
    assert found.keys() <= FILES.keys()
    assert FILES.keys() - found.keys() <= touched
    for name in found.keys() - touched:
        assert found[name] == FILES[name]


@pytest.mark.property
@given(first=st.integers(0, 40), count=st.integers(1, 12))
def test_a_hole_costs_the_members_it_touches(tmp_path, first, count):
    path = write(tmp_path / "a.tar", FILES)
    touched = lost(path, set(range(first, first + count)))
    raw = bytearray(path.read_bytes())
    raw[first * BLOCK : (first + count) * BLOCK] = bytes(count * BLOCK)
    path.write_bytes(raw)
    found = read_all(path)
    assert FILES.keys() - found.keys() <= touched
    for name in FILES.keys() - touched:
        assert found[name] == FILES[name]


@pytest.mark.property
@given(cut=st.integers(0, 20_000))
def test_a_truncated_archive_keeps_what_is_whole(tmp_path, cut):
    path = write(tmp_path / "a.tar", FILES)
    whole = {m.name for m in by_tarfile(path) if m.offset + m.size <= cut}
    path.write_bytes(path.read_bytes()[:cut])
    found = read_all(path)
    assert found == {name: FILES[name] for name in whole}


@pytest.mark.property
@given(block=st.integers(0, 20))
def test_a_damaged_long_name_costs_its_member_alone(tmp_path, block):
    path = write(tmp_path / "a.tar", LONG, format=tarfile.GNU_FORMAT)
    touched = lost(path, {block})
    raw = bytearray(path.read_bytes())
    raw[block * BLOCK : (block + 1) * BLOCK] = b"\xff" * BLOCK
    path.write_bytes(raw)
    found = read_all(path)
    for name in LONG.keys() - touched:
        assert found[name] == LONG[name]


@pytest.mark.behaviour
def test_a_size_below_zero_is_damage_and_not_a_loop(tmp_path):
    header = tarfile.TarInfo("bad.jpg")
    header.size = -5120
    raw = header.tobuf(tarfile.GNU_FORMAT)
    good = write(tmp_path / "good.tar", {"a.txt": b"a"}).read_bytes()
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(20 * BLOCK) + raw + good)
    found = []
    for member in members(path):
        found.append(member.name)
        assert len(found) < 5
    assert found == ["a.txt"]


@pytest.mark.behaviour
def test_a_reader_says_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match=r"cannot open the shard .*a\.tar: No such file"):
        Reader(tmp_path / "a.tar")
    path = write(tmp_path / "b.tar", {"a.txt": b"abc"})
    (member,) = members(path)
    reader = Reader(path)
    path.write_bytes(path.read_bytes()[: member.offset + 1])
    with pytest.raises(DataError, match="shorter than its index"):
        reader.read(member)
