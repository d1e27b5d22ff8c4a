"""Braces in names, as shells write them: `{a,b}` and `{000..012}` become every name they stand for.

For stores that cannot list what they hold, and for choosing some shards of many. Braces within
braces are not known. Knows text only.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence

from bifocal.errors import ConfigError

_GROUP = re.compile(r"(\{[^{}]*\})")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST = 1_000_000
"""Names that one pattern may stand for."""


def expand(pattern: str) -> list[str]:
    """Return the names that a pattern stands for, in its order; without braces, itself.

    Braces that hold neither a comma nor a range stay as they are.

    Raises:
        ConfigError: there are more than a million.
    """
    choices = [_choices(part) for part in _GROUP.split(pattern)]
    if math.prod(map(len, choices)) > MOST:
        raise ConfigError(f"the braces of '{pattern}' stand for more than {MOST:,} names")
    return list(dict.fromkeys(map("".join, itertools.product(*choices))))


def _choices(part: str) -> Sequence[str]:
    numbers = _RANGE.fullmatch(part)
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if abs(last - first) >= MOST:
            raise ConfigError(f"the braces '{part}' stand for more than {MOST:,} names")
        padded = any(n.startswith("0") and len(n) > 1 for n in numbers.groups())
        width = max(map(len, numbers.groups())) if padded else 0
        step = 1 if first <= last else -1
        return [f"{n:0{width}d}" for n in range(first, last + step, step)]
    is_list = part.startswith("{") and "," in part
    return part[1:-1].split(",") if is_list else [part]
