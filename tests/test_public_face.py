"""The package from outside: what it exports, what it costs to import."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import bifocal


@pytest.mark.golden
def test_the_public_names_are_these():
    # Origin: DESIGN section 3. A name that joins or leaves is a decision, not an accident.
    assert sorted(bifocal.__all__) == [
        "BifocalError",
        "CLIP",
        "CLIPConfig",
        "Preprocess",
        "Pretrained",
        "Tokenizer",
        "ZeroShotClassifier",
        "load",
        "zoo",
    ]
    for name in bifocal.__all__:
        assert getattr(bifocal, name).__doc__, name


@pytest.mark.behaviour
def test_every_module_imports_and_says_what_it_knows():
    names = [one.name for one in pkgutil.walk_packages(bifocal.__path__, "bifocal.")]
    assert len(names) > 50
    for name in names:
        if name.endswith("__main__"):
            continue
        assert importlib.import_module(name).__doc__, f"{name} has no header"


@pytest.mark.behaviour
def test_importing_the_library_is_light_and_silent():
    # A library is imported by programs that draw no plot and show no progress.
    code = """
import sys
import bifocal
heavy = ("matplotlib", "typer", "tensorboardX", "rich", "pandas", "datasets", "pyarrow", "sklearn")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
