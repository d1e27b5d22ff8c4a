"""Stopped anywhere and started again, or shared by processes: the same bits in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch

from bifocal.embed import Job, embed
from bifocal.embed.columns import read_block
from bifocal.embed.merge import Writer
from bifocal.errors import CheckpointError
from bifocal.pretrained import load
from bifocal.world import World

BOTH = Job(what="both", batch_size=4)


class Crash(BaseException):
    """What a power cut looks like from inside."""


@pytest.fixture
def whole(clip, pictures, tmp_path, contents) -> dict[str, bytes]:
    embed(clip, pictures(), tmp_path / "whole", BOTH)
    return contents(tmp_path / "whole")


@pytest.mark.property
@pytest.mark.parametrize("after", [1, 9, 30, 50])
def test_resumed_is_uninterrupted_bit_for_bit(clip, pictures, tmp_path, contents, whole, after):
    def crash(done: int, total: int) -> None:
        if done >= after:
            raise Crash

    out = tmp_path / "broken"
    with pytest.raises(Crash):
        embed(clip, pictures(), out, BOTH, watch=crash)
    told: list[int] = []
    embed(clip, pictures(), out, BOTH, threads=1, watch=lambda done, total: told.append(done))
    assert told[0] == (after - 1) // 8 * 8, "what was kept is not computed again"
    assert contents(out) == whole


@pytest.mark.property
@pytest.mark.parametrize("file", [0, 3, 8])
def test_stopped_while_files_are_put_together(
    clip, pictures, tmp_path, contents, whole, file, monkeypatch
):
    out, calls, finish = tmp_path / "broken", [], Writer.finish

    def crash(self: Writer) -> None:
        calls.append(self.name)
        if len(calls) > file:
            raise Crash
        finish(self)

    monkeypatch.setattr(Writer, "finish", crash)
    with pytest.raises(Crash):
        embed(clip, pictures(), out, BOTH)
    monkeypatch.setattr(Writer, "finish", finish)
    embed(clip, pictures(), out, BOTH)
    assert contents(out) == whole


@pytest.mark.property
def test_torn_blocks_are_computed_anew(clip, pictures, tmp_path, contents, whole):
    def crash(done: int, total: int) -> None:
        if done >= 50:
            raise Crash

    out = tmp_path / "broken"
    with pytest.raises(Crash):
        embed(clip, pictures(), out, BOTH, watch=crash)
    first, second, third, *_ = sorted((out / "unfinished").glob("*.block"))
    first.write_bytes(first.read_bytes()[:-7])
    data = bytearray(second.read_bytes())
    data[-3] ^= 1
    second.write_bytes(data)
    third.write_bytes(b"")
    assert [read_block(path) for path in (first, second, third)] == [None] * 3
    embed(clip, pictures(), out, BOTH)
    assert contents(out) == whole


@dataclass(frozen=True)
class Threads(World):
    """Processes that are threads: they can wait for one another, which is all that is asked."""

    barrier: threading.Barrier | None = None

    def wait(self) -> None:
        assert self.barrier is not None
        self.barrier.wait(30)


@pytest.mark.property
def test_processes_share_the_work(clip, pictures, tmp_path, contents, whole):
    out, size = tmp_path / "shared", 3
    barrier = threading.Barrier(size)
    shares: dict[int, int] = {}

    def one(rank: int) -> None:
        world = Threads(rank, size, barrier=barrier)
        embed(
            clip,
            pictures(),
            out,
            BOTH,
            world=world,
            watch=lambda done, total: shares.__setitem__(rank, total),
        )

    with ThreadPoolExecutor(size) as pool:
        list(pool.map(one, range(size)))
    assert shares == {0: 18, 1: 16, 2: 16}
    assert contents(out) == whole


PROGRAM = """
import sys, time, torch
from bifocal.data.sources import Reading, open_source
from bifocal.embed import Job, embed, job
from bifocal.pretrained import load
job.BLOCK = 8
torch.set_num_threads(1)
source = open_source("scenes:train:80", Reading(image_size=16))
slowly = lambda done, total: time.sleep(0.05)
embed(load(sys.argv[1]), source, sys.argv[2], Job(what="both", batch_size=4), watch=slowly)
"""


@pytest.mark.property
def test_killed_is_uninterrupted_bit_for_bit(clip, tmp_path, contents):
    from bifocal.data.sources import Reading, open_source

    clip.save(tmp_path / "model")
    out = tmp_path / "killed"
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "model"), str(out)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        while not (out / "unfinished" / "000000003.block").exists():
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "meta.json").exists(), "the kill came too late to mean anything"
    source = open_source("scenes:train:80", Reading(image_size=16))
    model = load(tmp_path / "model")
    for folder in (out, tmp_path / "alone"):
        embed(model, source, folder, BOTH)
    assert contents(out) == contents(tmp_path / "alone")


@pytest.mark.behaviour
def test_what_was_begun_is_finished_by_the_same_command_only(clip, pictures, tmp_path):
    def crash(done: int, total: int) -> None:
        raise Crash

    with pytest.raises(Crash):
        embed(clip, pictures(), tmp_path / "out", BOTH, watch=crash)
    with pytest.raises(CheckpointError, match="settings what both instead of images"):
        embed(clip, pictures(), tmp_path / "out", Job(batch_size=4))


@pytest.mark.property
def test_a_finished_folder_is_only_opened(clip, pictures, tmp_path, monkeypatch):
    embed(clip, pictures(), tmp_path / "out", BOTH)
    monkeypatch.setattr(torch.nn.Module, "__call__", None)
    assert len(embed(clip, pictures(), tmp_path / "out", BOTH)) == 47
