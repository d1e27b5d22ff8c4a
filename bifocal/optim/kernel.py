"""`Update.move` on a CPU in one pass over memory: kernel.c, compiled where it runs.

Torch's fused kernel knows no averages that are shorter than weights, and rounds to nearest; what
passes through it in parts is read, moved and rounded in a dozen passes. In one pass a step in 16
bits moves fewer bytes than torch's in float32. It ends in the same bits where torch's kernel works
by vectors that multiply and add at once (AVX2, AVX-512). Before they are rounded numbers may differ
by a last bit on other processors, in the last elements of a tensor, which fill no vector, and in
float16 averages, whose roots are MKL's for torch and here the nearest numbers.

Knows how to compile, to describe tensors, and to share the work among threads. The arithmetic is in
kernel.c; its plain twin is `Update.move`.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bifocal.errors import ConfigError
from bifocal.optim.rounding import BLOCK, Noise, deck, factors
from bifocal.optim.update import Group, Move, Update

SOURCE = Path(__file__).with_name("kernel.c")
COMPILERS = ("cc", "gcc", "clang", "g++", "clang++")
X86 = platform.machine() in ("x86_64", "AMD64")
FOR_THIS_MACHINE = ("-march=native", "-mprefer-vector-width=512") if X86 else ("-mcpu=native",)
FLAGS = (
    f"-DBLOCK={BLOCK}",
    *("-x", "c", "-std=c11", "-O3", "-shared", "-fPIC"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
    *FOR_THIS_MACHINE,
)
FORMATS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
LEAST = 2**14
"""Elements that are worth a thread."""
AVERAGES = "first", "second"
"""As `struct step` calls what a storage names by its `kinds`."""


class _Stored(ctypes.Structure):
    """`struct stored` of kernel.c."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("format", ctypes.c_int32),
        ("read", ctypes.c_float),
        ("write", ctypes.c_float * 2),
        ("cuts", ctypes.c_void_p),
    )


class _Step(ctypes.Structure):
    """`struct step` of kernel.c."""

    _fields_ = (
        ("weight", _Stored),
        ("first", _Stored),
        ("second", _Stored),
        ("grad", ctypes.c_void_p),
        ("deck", ctypes.c_void_p),
        ("here", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("keep", ctypes.c_float),
        ("rise_first", ctypes.c_float),
        ("decay_second", ctypes.c_float),
        ("rise_second", ctypes.c_float),
        ("rate", ctypes.c_float),
        ("root", ctypes.c_float),
        ("eps", ctypes.c_float),
    )


class _Array(ctypes.Structure):
    """`struct array` of kernel.c."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("format", ctypes.c_int32),
        ("count", ctypes.c_int64),
    )


class Kernel:
    """Moves tensors of which something is kept in 16 bits, on a CPU.

    Raises:
        ConfigError: there is no C compiler, or it fails.
    """

    def __init__(self) -> None:
        self._library = compiled()
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._deck = deck(16, torch.device("cpu")).numpy().astype(np.uint16)

    @staticmethod
    def takes(update: Update) -> bool:
        """Return whether a tensor is moved here: on a CPU, its gradient in the same format."""
        return update.weight.device.type == "cpu" and update.grad.dtype == update.weight.dtype

    def move(self, moves: Sequence[Move], group: Group) -> None:
        """Do what `Update.move` does, of every tensor, by as many threads as torch computes with.

        Args:
            moves: of tensors that it takes.
            group: their settings, but for the rate.
        """
        noises = [update.noise() for update, _, _ in moves]  # what they draw outlives the call
        steps = (_Step * len(moves))(
            *(self._step(group, noise, *one) for noise, one in zip(noises, moves, strict=True))
        )
        work = partial(self._library.move, steps, len(moves))
        self._share(work, sum(update.weight.numel() for update, _, _ in moves))

    def peaks(self, updates: Sequence[Update]) -> Float[Tensor, " tensors"]:
        """Do what `Update.peak` does, of every tensor; it takes all of them."""
        grads = [update.grad for update in updates]
        arrays = (_Array * len(grads))(
            *((grad.data_ptr(), FORMATS[grad.dtype], grad.numel()) for grad in grads)
        )
        found = np.zeros((torch.get_num_threads(), len(grads)), np.float32)

        def work(part: int, parts: int) -> None:
            self._library.peaks(arrays, len(grads), part, parts, found[part].ctypes.data)

        self._share(work, sum(grad.numel() for grad in grads))
        return torch.from_numpy(found).amax(dim=0)

    def _step(self, group: Group, noise: Noise, update: Update, lr: float, peak: float) -> _Step:
        kinds, (beta1, beta2) = update.storage.kinds, group["betas"]
        before, after = update.storage.rescale(update.state, peak, group["betas"])
        return _Step(
            weight=_stored(update.weight, noise.cuts("weight")),
            **{
                place: _stored(update.state[kind], noise.cuts(kind), read, write)
                for place, kind, read, write in zip(AVERAGES, kinds, before, after, strict=True)
            },
            grad=update.grad.data_ptr(),
            deck=self._deck.ctypes.data,
            here=update.first_element,
            count=update.weight.numel(),
            keep=1 - lr * group["weight_decay"],
            rise_first=1 - beta1,
            decay_second=beta2,
            rise_second=1 - beta2,
            rate=-lr / (1 - beta1**update.step),
            root=math.sqrt(1 - beta2**update.step),
            eps=group["eps"],
        )

    def _share(self, work: Callable[[int, int], None], elements: int) -> None:
        """Call `work(part, parts)` for all parts of some elements, the first by this thread."""
        parts = max(1, min(torch.get_num_threads(), elements // LEAST))
        others = [self._pool.submit(work, part, parts) for part in range(1, parts)]
        try:
            work(0, parts)
        finally:
            wait(others)  # an interrupt must not leave threads at tensors that are let go
        for other in others:
            other.result()


def _stored(tensor: Tensor, cuts: np.ndarray, before: float = 1.0, after: float = 1.0) -> _Stored:
    """Return a description of a tensor, over which scale it is stored and will be."""
    write = factors(tensor.dtype, 1 / after)
    return _Stored(tensor.data_ptr(), FORMATS[tensor.dtype], before, write, cuts.ctypes.data)


def find_compiler() -> list[str]:
    """Return the command of a C compiler: $CC, else one that is known; empty if there is none."""
    own = shlex.split(os.environ.get("CC", ""))
    known = [own] if own else [[name] for name in COMPILERS]
    return next((command for command in known if shutil.which(command[0])), [])


@functools.cache
def compiled() -> ctypes.CDLL:
    """Return kernel.c, compiled for this machine; half a second, once a process.

    Raises:
        ConfigError: there is no C compiler, or it fails.
    """
    compiler = find_compiler()
    if not compiler:
        raise ConfigError(
            f"a compiled optimizer needs a C compiler, and there is none at $CC or, if that is not "
            f"set, called {', '.join(COMPILERS)}: install one, or leave train.compile out"
        )
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "kernel.so"
            command = [*compiler, *FLAGS, str(SOURCE), "-o", str(made), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ConfigError(
                    f"{shlex.join(compiler)} cannot compile {SOURCE.name}: leave train.compile "
                    f"out; it says\n{done.stderr.strip()[:1000]}"
                )
            library = ctypes.CDLL(str(made))
    except OSError as error:
        raise ConfigError(
            f"{SOURCE.name} cannot be compiled by {shlex.join(compiler)} and loaded: set TMPDIR to "
            f"a folder whose files may be executed, or leave train.compile out ({error})"
        ) from None
    sizes = (ctypes.c_int64,) * 3
    library.move.argtypes = (ctypes.POINTER(_Step), *sizes)
    library.peaks.argtypes = (ctypes.POINTER(_Array), *sizes, ctypes.c_void_p)
    library.move.restype = library.peaks.restype = None
    library.size_of_step.restype = ctypes.c_int64
    assert library.size_of_step() == ctypes.sizeof(_Step), "kernel.c and kernel.py disagree"
    return library
