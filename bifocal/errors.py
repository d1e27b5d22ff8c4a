"""Every error that bifocal raises for a user's mistake or a broken input.

    BifocalError
    ├── ConfigError        a setting, argument or recipe is wrong
    ├── DataError          pictures, captions or shards are missing or damaged
    ├── TokenizerError     a vocabulary cannot be read, or is not what it claims
    ├── CheckpointError    a saved model or run cannot be written, read or matched
    ├── TrainingError      a run cannot go on (too many bad samples, non-finite loss)
    └── Interrupted        the user asked to stop; what was done is saved

Each message says what was got, what was expected and what to do. The command line prints the
message alone; a traceback means a fault of bifocal itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BifocalError(Exception):
    """Root of the tree: catch this to catch whatever bifocal raises on purpose."""


class ConfigError(BifocalError):
    """A setting, an argument or a recipe is wrong."""


class DataError(BifocalError):
    """Pictures, captions or shards are missing, empty or damaged beyond what is skipped."""


class TokenizerError(BifocalError):
    """A vocabulary cannot be read, or is not what it claims to be."""


class CheckpointError(BifocalError):
    """A saved model or run cannot be written, read or matched to its configuration."""


class TrainingError(BifocalError):
    """A run cannot go on."""


class Interrupted(BifocalError):
    """The user asked the run to stop; its state is saved."""


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """Return " — did you mean 'x'?" for the nearest of `known`, or "" if none is near."""
    near = difflib.get_close_matches(got, list(known), n=1, cutoff=0.6)
    return f" — did you mean '{near[0]}'?" if near else ""
