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

import numpy as np

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


# The structures of kernel.c, by the same names.
STORED = np.dtype(
    [
        ("data", np.uintp),
        ("format", np.int32),
        ("read", np.float32),
        ("write", np.float32, 2),
        ("cuts", np.uintp),
    ],
    align=True,
)
STEP = np.dtype(
    [
        *((name, STORED) for name in ("weight", "first", "second")),
        *((name, np.uintp) for name in ("grad", "deck")),
        *((name, np.int64) for name in ("here", "count")),
        *((name, np.float32) for name in ("keep", "rise_first", "decay_second", "rise_second")),
        *((name, np.float32) for name in ("rate", "root", "eps")),
    ],
    align=True,
)
GRADIENT = np.dtype([("data", np.uintp), ("format", np.int32), ("count", np.int64)], align=True)
LAG = np.dtype(
    [
        ("grad", GRADIENT),
        ("second", np.uintp),
        ("format", np.int32),
        *((name, np.float32) for name in ("read", "rise_second", "correction", "least")),
    ],
    align=True,
)
DESCRIPTIONS = {"move": STEP, "measure": GRADIENT, "excesses": LAG}
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
    for name in DESCRIPTIONS:
        function = getattr(library, name)
        function.argtypes = (ctypes.c_void_p, *(ctypes.c_int64,) * 3, ctypes.c_void_p)
        function.restype = None
    found = (ctypes.c_int64 * len(DESCRIPTIONS))()
    library.sizes(found)
    expected = [description.itemsize for description in DESCRIPTIONS.values()]
    assert list(found) == expected, "kernel.c and library.py disagree"
    return library
