"""Numbers as people read them.

Knows: how many digits, which separators. Must not know: where the number is shown.
"""

import itertools
import math
import numbers
from collections.abc import Sequence

import numpy as np

NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def format_value(value: object) -> str:
    """Return any scalar as text: numbers by `format_number`, `None` as a dash, the rest by `str`.

    Args:
        value: A string, number (numpy scalars included), boolean or `None`. A sequence is joined
            with commas.
    """
    match value:
        case None:
            return "–"
        case bool() | np.bool_():
            return "yes" if value else "no"
        case str():
            return value
        case numbers.Integral():
            return f"{int(value):,}"
        case numbers.Real():
            return format_number(float(value))
        case list() | tuple() | set() | frozenset():
            return ", ".join(format_value(item) for item in value) or "–"
        case _:
            return str(value)


def format_number(value: float | int) -> str:
    """Return a number with four significant digits (three below 0.001) and thousands separators.

    >>> format_number(0.0005), format_number(2.34567), format_number(12345.6)
    ('0.0005', '2.346', '12,346')
    """
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    if 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1e-3 else f"{value:.4g}"


def format_percent(fraction: float | int, digits: int = 1) -> str:
    """Return a fraction in 0…1 as a percentage with a narrow no-break space before the sign."""
    if not math.isfinite(fraction):
        return str(float(fraction))
    return f"{100 * fraction:.{digits}f}{NARROW_SPACE}%"


def format_compact(value: float | int) -> str:
    """Return a count with an SI prefix.

    >>> format_compact(1_250_000).replace(NARROW_SPACE, " ")
    '1.25 M'
    """
    if not math.isfinite(value):
        return str(float(value))
    for scale, prefix in _PREFIXES:
        # 999.5 and above would print as "1e+03" with three digits.
        if abs(value) >= scale * 0.9995:
            return f"{value / scale:.3g}{NARROW_SPACE}{prefix}"
    return f"{value:.3g}"


def tick_texts(ticks: Sequence[float | int], percent: bool = False) -> list[str]:
    """Return the texts of an axis: as many digits as tell neighbouring ticks apart, and no more.

    Args:
        ticks: Ascending positions.
        percent: Whether positions are fractions to be shown as percentages.
    """
    scaled = [100 * float(tick) for tick in ticks] if percent else [float(tick) for tick in ticks]
    if not scaled:
        return []
    largest = max(abs(tick) for tick in scaled)
    steps = [later - earlier for earlier, later in itertools.pairwise(scaled)]
    smallest = min((step for step in steps if step > 0), default=largest)
    unit, suffix = 1.0, f"{NARROW_SPACE}%" if percent else ""
    if not percent and largest >= 1e4 and smallest >= largest / 1e3:
        unit, prefix = next(pair for pair in _PREFIXES if largest >= pair[0])
        suffix = NARROW_SPACE + prefix
    elif not percent and 0 < largest < 1e-3:
        exponent = math.floor(math.log10(largest) + 1e-9)
        unit, suffix = 10.0**exponent, f"e{exponent}"
    decimals = _decimals(smallest / unit)
    texts = []
    for tick in scaled:
        # Adding zero turns -0.0 into 0.0.
        text = f"{round(tick / unit, decimals) + 0.0:,.{decimals}f}".replace("-", "−")
        if unit != 1.0 and "." in text:
            text = text.rstrip("0").rstrip(".")
        texts.append(text if text == "0" and unit != 1.0 else text + suffix)
    return texts


def _decimals(step: float) -> int:
    """Return how many decimals show `step` exactly, up to one more digit than its magnitude."""
    if step <= 0:
        return 0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return decimals if math.isclose(round(step, decimals), step, rel_tol=1e-3) else decimals + 1
