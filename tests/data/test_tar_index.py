"""Where members lie, against the standard library's tarfile; and what cannot be read."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tar_files import FILES, LONG, by_tarfile, read_all, write

from bifocal.data.archive import Member, Reader
from bifocal.data.tar import BAD_NAME, DAMAGED, members, scan
from bifocal.data.tar_header import BLOCK, long_name, pax
from bifocal.errors import DataError


@pytest.mark.parity
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_index_is_tarfiles(tmp_path, format):
    path = write(tmp_path / "a.tar", FILES, format=format)
    assert members(path) == by_tarfile(path)
    assert read_all(path) == FILES
    assert not scan(path).losses


@pytest.mark.parity
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_full(tmp_path, format):
    path = write(tmp_path / "a.tar", LONG, format=format)
    assert members(path) == by_tarfile(path)
    assert read_all(path) == LONG
    assert not scan(path).losses


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
    assert members(path) == by_tarfile(path)
    assert len(members(path)) == 3


@pytest.mark.parity
@given(
    names=st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=300).filter(
            lambda name: "/" not in (name[-1], name[0]) and len(name.encode()) < 900
        ),
        unique=True,
        max_size=6,
    ),
    sizes=st.lists(st.integers(0, 1400), min_size=6, max_size=6),
    format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_name_and_size_is_tarfiles(tmp_path, names, sizes, format):
    files = {name: bytes([65 + n]) * sizes[n] for n, name in enumerate(names)}
    path = write(tmp_path / "a.tar", files, format=format)
    assert members(path) == by_tarfile(path)
    assert not scan(path).losses


@pytest.mark.parity
def test_a_ustar_prefix_and_a_pax_size_are_read(tmp_path):
    split = {f"{'p' * 120}/{'n' * 80}.jpg": b"abc"}
    path = write(tmp_path / "a.tar", split, format=tarfile.USTAR_FORMAT)
    assert members(path) == by_tarfile(path)
    header = tarfile.TarInfo("b.jpg")
    header.size, header.pax_headers = 0, {"size": "700", "path": "other/b.jpg"}
    raw = header.tobuf(tarfile.PAX_FORMAT) + b"x" * 1024
    path.write_bytes(raw + write(tmp_path / "c.tar", {"c.jpg": b"y"}).read_bytes())
    assert members(path) == by_tarfile(path)
    assert [(m.name, m.size) for m in members(path)] == [("other/b.jpg", 700), ("c.jpg", 1)]


@pytest.mark.parity
def test_a_size_too_large_for_octal_digits_is_read(tmp_path):
    header = tarfile.TarInfo("big.jpg")
    header.size = 9 << 30
    path = tmp_path / "a.tar"
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        raw = header.tobuf(format)
        with path.open("wb") as file:
            file.write(raw)
            file.truncate(len(raw) + header.size + 1024)
        assert members(path) == [Member("big.jpg", len(raw), 9 << 30)] == by_tarfile(path)


@pytest.mark.behaviour
@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(40),
        b"no records",
        b"99 path=a.jpg\n",
        b"14 path=a.jpg.",
        b"9 path=a\n14 path=b.jpg",
        b"12 size=-12\n",
        b"30 size=" + b"9" * 21 + b"\n",
        b"9999999999999999999 a=b\n",
    ],
)
def test_damaged_pax_records_spoil_their_member(data):
    assert pax(data).spoiled


@pytest.mark.golden
def test_pax_records_are_as_posix_writes_them():
    # Origin: POSIX.1-2017 pax, "%d %s=%s\n" with the length of the whole record.
    found = pax(b"30 mtime=1350244992.023960108\n18 path=dir/a.jpg\n12 size=123\n")
    assert (found.raw_name, found.size, found.spoiled, found.sparse) == (
        b"dir/a.jpg",
        123,
        False,
        False,
    )
    assert pax(b"22 GNU.sparse.major=1\n").sparse
    assert long_name(b"\0").spoiled
    assert long_name(b"a\0b\0").spoiled


@pytest.mark.behaviour
@pytest.mark.parametrize("magic", [b"\x1f\x8b", b"BZh9", b"(\xb5/\xfd", b"\xfd7zXZ\0"])
def test_a_compressed_shard_is_named_as_such(tmp_path, magic):
    path = tmp_path / "a.tar"
    path.write_bytes(magic + bytes(range(256)) * 9)
    with pytest.raises(DataError, match=r"a\.tar is compressed: unpack it"):
        scan(path)


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


@pytest.mark.behaviour
@pytest.mark.parametrize("fault", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_a_disk_that_fails_for_a_moment_costs_nothing(tmp_path, monkeypatch, fault):
    path = write(tmp_path / "a.tar", {"a.txt": b"abc"})
    (member,) = members(path)
    reader, pread, faults = Reader(path), os.pread, [fault]

    def fails(file: int, size: int, offset: int) -> bytes:
        if faults:
            raise OSError(faults.pop(), "for a moment")
        return pread(file, size, offset)

    monkeypatch.setattr(os, "pread", fails)
    assert reader.read(member) == b"abc"
    faults += [fault, fault]
    with pytest.raises(DataError, match=r"^unreadable shard$"):
        reader.read(member)
    faults += [fault, fault]
    with pytest.raises(DataError, match=r"cannot read the shard .*a\.tar: for a moment"):
        reader.at(0, 1)
    assert reader.read(member) == b"abc"
    # Meanwhile another file took the place: its bytes are not those of the member.
    path.unlink()
    write(path, {"a.txt": b"another"})
    os.utime(path, (1, 1))
    faults.append(fault)
    with pytest.raises(DataError, match=r"^shard changed while in use$"):
        reader.read(member)


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
def test_a_name_that_lost_its_end_is_not_believed(tmp_path):
    names = [f"{'folder/' * 20}{n}.jpg" for n in range(3)]
    path = write(tmp_path / "a.tar", dict.fromkeys(names, b"abc"), format=tarfile.GNU_FORMAT)
    raw = bytearray(path.read_bytes())
    raw[:BLOCK] = b"\xff" * BLOCK  # the header of the first long name
    path.write_bytes(raw)
    assert [m.name for m in members(path)] == names[1:]
    assert scan(path).losses == Counter({DAMAGED: 1, BAD_NAME: 1})
