"""What damage costs: the members that it touches, and a count."""

from __future__ import annotations

import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tar_files import FILES, KINDS, LONG, by_tarfile, read_all, write

from bifocal.data.archive import Reader
from bifocal.data.tar import (
    BAD_NAME,
    CUT_OFF,
    CUT_SHORT,
    DAMAGED,
    HOLE,
    NO_END,
    SPARSE,
    members,
    scan,
)
from bifocal.data.tar_header import BLOCK


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
def test_what_was_lost_is_counted_by_reason(tmp_path):
    whole = write(tmp_path / "a.tar", FILES).read_bytes()
    first, last = by_tarfile(tmp_path / "a.tar")[6], by_tarfile(tmp_path / "a.tar")[-1]
    start = first.offset - BLOCK

    def losses(raw: bytes) -> dict[str, int]:
        (tmp_path / "b.tar").write_bytes(raw)
        return dict(scan(tmp_path / "b.tar").losses)

    assert losses(whole[:start] + b"\xff" * BLOCK + whole[start + BLOCK :]) == {DAMAGED: 1}
    gap = BLOCK + -(-first.size // BLOCK) * BLOCK
    assert losses(whole[:start] + bytes(gap) + whole[start + gap :]) == {HOLE: 1}
    assert losses(whole[: first.offset] + whole[first.offset + 100 :]) == {CUT_SHORT: 1}
    assert losses(whole[: last.offset + 10]) == {CUT_OFF: 1}
    assert losses(whole[:start]) == {NO_END: 1}
    assert losses(whole + whole) == {HOLE: 1}
    assert losses(whole + b"garbage" * 100) == {DAMAGED: 1}
    assert losses(b"garbage" * 1000) == {DAMAGED: 1}
    assert losses(b"") == {NO_END: 1}
    assert losses(bytes(10240)) == {}
    long = write(tmp_path / "c.tar", LONG, format=tarfile.GNU_FORMAT).read_bytes()
    assert losses(long[:BLOCK] + b"\xff" * 10 + long[BLOCK + 10 :]) == {BAD_NAME: 1}
    sparse = tarfile.TarInfo("s.jpg")
    sparse.type = tarfile.GNUTYPE_SPARSE
    assert losses(sparse.tobuf(tarfile.GNU_FORMAT) + whole) == {SPARSE: 1}


@pytest.mark.behaviour
def test_a_member_that_swallows_others_is_dropped_and_they_are_kept(tmp_path):
    path = write(tmp_path / "a.tar", FILES)
    raw, wide = path.read_bytes(), {m.name: m for m in by_tarfile(path)}["010.jpg"]
    # Bytes are missing from the middle of a picture: by its size it now reaches into the next.
    path.write_bytes(raw[: wide.offset + 200] + raw[wide.offset + 700 :])
    assert read_all(path) == {name: data for name, data in FILES.items() if name != "010.jpg"}


@pytest.mark.property
@settings(max_examples=9)
@given(
    place=st.floats(0, 1, exclude_max=True),
    kind=st.sampled_from(["noise", "zeros", "ones"]),
    format=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_one_garbled_block_costs_a_thousand_pairs_no_more_than_one(thousand, format, place, kind):
    path, raw, expected = thousand[format]
    block = int(place * (len(raw) // BLOCK - 20))
    junk = {"noise": random.Random(block).randbytes(BLOCK), "zeros": bytes(BLOCK)}
    with path.open("r+b") as file:
        file.seek(block * BLOCK)
        file.write(junk.get(kind, b"\xff" * BLOCK))
        file.flush()
        found = set(members(path))
        file.seek(block * BLOCK)
        file.write(raw[block * BLOCK : (block + 1) * BLOCK])
    assert found <= expected
    assert len(found) >= 1999


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """A shard of a thousand pairs in each format: path, bytes and members."""
    sizes = random.Random(0)
    names = [f"{n:09d}-{'é' * (n % 3)}.{kind}" for n in range(1000) for kind in KINDS]
    files = {name: bytes(sizes.randrange(1, 1500)) for name in names}
    shards = {}
    for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = write(tmp_path_factory.mktemp("thousand") / "a.tar", files, format=format)
        shards[format] = path, path.read_bytes(), set(by_tarfile(path))
    return shards


SIGNED = {
    f"{n:03d}.{kind}": f"{n:03d}.{kind}|".encode() * (n * 37 % 160)
    for n in range(14)
    for kind in KINDS
}

changes = st.tuples(
    st.sampled_from(["garble", "erase", "remove", "insert", "repeat", "cut"]),
    st.integers(0, 30_000),
    st.one_of(st.integers(1, 4000), st.integers(1, 8).map(lambda n: n * BLOCK)),
)


def damaged(raw: bytes, change: tuple[str, int, int]) -> tuple[bytes, range]:
    """Return an archive after one change, and the bytes of it that were touched."""
    kind, at, length = change
    at = min(at, len(raw))
    hit = raw[at : at + length]
    junk = random.Random(at).randbytes(length)
    match kind:
        case "garble":
            return raw[:at] + junk[: len(hit)] + raw[at + length :], range(at, at + length)
        case "erase":
            return raw[:at] + bytes(len(hit)) + raw[at + length :], range(at, at + length)
        case "remove":
            return raw[:at] + raw[at + length :], range(at, at + length)
        case "insert":
            return raw[:at] + junk + raw[at:], range(at - 1, at + 1)
        case "repeat":
            return raw[:at] + hit + raw[at:], range(at - 1, at + 1)
        case _:
            return raw[:at], range(at, len(raw))


@pytest.mark.property
@settings(max_examples=100)
@given(change=changes, format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
@example(change=("repeat", 108, 1), format=tarfile.GNU_FORMAT)  # checksums hold, one byte off
@example(change=("remove", 0, 1), format=tarfile.GNU_FORMAT)
@example(change=("remove", 12960, 1), format=tarfile.GNU_FORMAT)  # padding alone is missing
@example(change=("remove", 9728, 3072), format=tarfile.GNU_FORMAT)  # blocks that fit by chance
def test_any_one_damage_leaves_every_untouched_member_as_it_was(tmp_path, change, format):
    path = write(tmp_path / "a.tar", SIGNED, format=format)
    raw, touched = damaged(path.read_bytes(), change)
    with tarfile.open(path) as archive:
        spans = {m.name: range(m.offset, m.offset_data + m.size) for m in archive}
    hurt = {n for n, s in spans.items() if s.start < touched.stop and touched.start < s.stop}
    path.write_bytes(raw)
    found = read_all(path)
    assert found.keys() <= SIGNED.keys()
    for name in SIGNED.keys() - hurt:
        # Where blocks are gone, a hurt member may end before a header by chance: what lies between
        # is taken for its data, and nothing in the archive tells.
        swallowed = any(f"{name}\0".encode() in found[other] for other in hurt & found.keys())
        assert found.get(name) == SIGNED[name] or (swallowed and name not in found)


@pytest.mark.property
@settings(max_examples=60)
@given(several=st.lists(changes, min_size=1, max_size=6), long=st.booleans())
def test_any_damage_ends_in_members_or_a_data_error(tmp_path, several, long):
    files = LONG | SIGNED if long else SIGNED
    path = write(tmp_path / "a.tar", files, format=tarfile.GNU_FORMAT)
    raw = path.read_bytes()
    for change in several:
        raw, _ = damaged(raw, change)
    path.write_bytes(raw)
    reader, end = Reader(path), 0
    for member in members(path):
        assert member.name in files or is_end_of_long_name_lost(member.name, files)
        assert member.offset >= end
        end = member.offset + member.size
        assert len(reader.read(member)) == member.size


def is_end_of_long_name_lost(name: str, files: dict[str, bytes]) -> bool:
    """Whether a name is one of the files' but for what nothing in the archive repeats.

    The header repeats 100 bytes of a long name; what follows has no checksum, and where the
    announcement is gone block by block, the 100 bytes look like a whole name.
    """
    raw = name.encode("utf-8", "surrogateescape")
    return len(raw) >= 100 and any(known.encode()[:99] == raw[:99] for known in files)
