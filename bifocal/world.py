"""Which process this is, among how many, on which device; a world of one is ordinary.

Knows the few collectives that training needs. In a world of one each of them returns what it is
given, so that nothing else in bifocal asks how many processes there are.
"""

from __future__ import annotations

import os
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from bifocal.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

ROUNDS = 8
"""Calls at the end of a world; gloo serves them by two threads."""
PATIENCE = timedelta(seconds=10)
"""For a process that does not leave."""
LONGEST = timedelta(days=7)
"""That others wait while the leading process evaluates or writes."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes that share a run; every method but the properties is a collective call."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    talk: dist.ProcessGroup | None = None
    """By which processes agree and wait: on the CPU, so that no device's queue has to end, and for
    as long as it takes."""

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def gather(self, rows: Shaped[Tensor, "local ..."]) -> Shaped[Tensor, "all ..."]:
        """Return the rows of all processes, in the order of ranks; every rank has as many."""
        if self.size == 1:
            return rows
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by its sum over the processes, the same bits on all, and return it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def max_(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by its maximum over the processes and return it."""
        if self.size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    def scatter_sum(self, rows: Shaped[Tensor, "all ..."]) -> Shaped[Tensor, "local ..."]:
        """Sum `rows` over the processes and return this one's part of the sum."""
        if self.size == 1:
            return rows
        parts = [part.contiguous() for part in rows.chunk(self.size)]
        own = torch.empty_like(parts[0])
        dist.reduce_scatter(own, parts)
        return own

    def agree(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.size == 1:
            return flag
        said = torch.tensor(int(flag), device="cpu" if self.talk else self.device)
        dist.all_reduce(said, dist.ReduceOp.MAX, group=self.talk)
        return bool(said)

    def wait(self) -> None:
        """Return once all processes have come here."""
        if self.size > 1:
            self.agree(False)


ALONE = World()
"""The world of one process, on the CPU."""


@contextmanager
def join_world(device: str, timeout: timedelta = timedelta(minutes=30)) -> Iterator[World]:
    """Join the processes that torchrun started, or be a world of one.

    Args:
        device: "auto", "cpu", "cuda" or "mps"; of several accelerators each process takes the one
            of its local rank.
        timeout: how long a process waits for the others in the middle of a computation before it
            gives up.

    Raises:
        ConfigError: the machine has no such device, or fewer than processes.
    """
    chosen = pick_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(device=chosen)
        return
    if chosen.type == "cuda":
        local, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= devices:
            raise ConfigError(
                f"process {local} of this machine has no device, there are {devices}: set "
                f"torchrun's --nproc-per-node to {devices} or less, or train.device=cpu"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://", timeout=timeout))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        store = PrefixStore(_fresh_name(store, rank, size, timeout), store)
    backend, own = ("nccl", chosen) if chosen.type == "cuda" else ("gloo", None)
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=timeout, device_id=own
    )
    talk = dist.new_group(backend="gloo", timeout=LONGEST)
    assert isinstance(talk, dist.ProcessGroup)
    world = World(rank, size, chosen, talk)
    try:
        yield world
        _finish(world)
    except BaseException:
        if backend == "gloo":  # NCCL would wait for the others to end it too
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()
    _leave(store, world)


def _fresh_name(store: Store, rank: int, size: int, timeout: timedelta) -> str:
    """Agree with the other processes on a name that no start before this one has used.

    torchrun lends its processes one store for all restarts, in which the addresses of the dead
    still stand. Process 0 answers the others under names that they have just drawn, so that nobody
    takes for an answer what was written before; it asks again until all have understood.
    """
    name, deadline = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()
    if rank:
        store.set(f"bifocal/asks/{rank}", name)
        agreed = store.get(f"bifocal/answer/{name}").decode()
        store.set(f"{agreed}/{rank}", "")
        return agreed
    for other in range(1, size):
        while not store.check([f"{name}/{other}"]) and time.monotonic() < deadline:
            asking = store.get(f"bifocal/asks/{other}").decode()
            store.set(f"bifocal/answer/{asking}", name)
            time.sleep(0.005)
    return name


def _finish(world: World) -> None:
    """Return when all processes have come here and gloo's threads have let go of their tensors.

    Spread weights keep these threads alive beyond the world. One that drops the last reference to
    a tensor while the interpreter ends asks for the interpreter's lock, which aborts the process
    (pytorch#190489).
    """
    world.wait()
    of_gloo = (world.talk, None) if world.device.type == "cpu" else (world.talk,)
    for group in of_gloo * ROUNDS:
        flag = torch.zeros(())
        seen, deadline = weakref.ref(flag), time.monotonic() + PATIENCE.total_seconds()
        dist.all_reduce(flag, group=group)
        del flag
        while seen() is not None and time.monotonic() < deadline:
            time.sleep(0.001)


def _leave(store: Store, world: World) -> None:
    """Let the process that may keep the store leave last."""
    if world.rank:
        store.set(f"left/{world.rank}", "")
        return
    with suppress(dist.DistStoreError):  # somebody died: there is nothing left to wait for
        store.wait([f"left/{other}" for other in range(1, world.size)], PATIENCE)


def pick_device(name: str) -> torch.device:
    """Return the device of that name; "auto" takes the accelerator if there is one.

    From then on CUDA's convolutions in float32 are computed in float32, as its products are, and
    not in 19 bits.

    Raises:
        ConfigError: the machine has no such device.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"no device is named '{name}': use auto, cpu, cuda or mps") from None
    if device.type != "cpu" and (accelerator is None or accelerator.type != device.type):
        raise ConfigError(f"this machine has no '{name}': use device=auto or device=cpu")
    return device
