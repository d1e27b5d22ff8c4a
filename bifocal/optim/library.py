"""kernel.c as a library, compiled where it runs: its functions and what they take.

Knows compilers and structures; knows nothing of tensors.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from bifocal.errors import ConfigError
from bifocal.optim.rounding import BLOCK

SOURCE = Path(__file__).with_name("kernel.c")
COMPILERS = ("cc", "gcc", "clang", "g++", "clang++")
X86 = platform.machine() in ("x86_64", "AMD64")
FOR_THIS_MACHINE = ("-march=native", "-mprefer-vector-width=512") if X86 else ("-mcpu=native",)
FLAGS = (
    f"-DBLOCK={BLOCK}",
    *("-x", "c", "-std=c11", "-O3", "-shared", "-fPIC"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"),
    *FOR_THIS_MACHINE,
)


class Stored(ctypes.Structure):
    """`struct stored` of kernel.c."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("format", ctypes.c_int32),
        ("read", ctypes.c_float),
        ("write", ctypes.c_float * 2),
        ("cuts", ctypes.c_void_p),
    )


class Step(ctypes.Structure):
    """`struct step` of kernel.c."""

    _fields_ = (
        ("weight", Stored),
        ("first", Stored),
        ("second", Stored),
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


class Gradient(ctypes.Structure):
    """`struct gradient` of kernel.c."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("format", ctypes.c_int32),
        ("count", ctypes.c_int64),
    )


class Lag(ctypes.Structure):
    """`struct lag` of kernel.c."""

    _fields_ = (
        ("grad", Gradient),
        ("second", ctypes.c_void_p),
        ("format", ctypes.c_int32),
        ("read", ctypes.c_float),
        ("rise_second", ctypes.c_float),
        ("correction", ctypes.c_float),
        ("least", ctypes.c_float),
    )


DESCRIPTIONS = {"move": Step, "measure": Gradient, "excesses": Lag}
"""What each function of kernel.c takes an array of."""


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
    counts = (ctypes.c_int64,) * 3
    for name, description in DESCRIPTIONS.items():
        function = getattr(library, name)
        function.argtypes = (ctypes.POINTER(description), *counts, ctypes.c_void_p)
        function.restype = None
    found = (ctypes.c_int64 * len(DESCRIPTIONS))()
    library.sizes(found)
    expected = [ctypes.sizeof(description) for description in DESCRIPTIONS.values()]
    assert list(found) == expected, "kernel.c and library.py disagree"
    return library
