"""Ten outlines and three textures as functions of the plane.

Knows: signed distances (negative inside) to outlines that fit the unit disc, y upwards, and
periodic patterns. Must not know: scenes, colours or pictures. Only +, -, ·, /, min, max, floor
and the square root are used on arrays: IEEE 754 fixes their results, so pictures are the same
bytes on every platform, which sines and BLAS sums would not promise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32

Field: TypeAlias = Float32[np.ndarray, "rows columns"]

# Sine and cosine of multiples of 72 degrees, from straight up: normals of the star's five sides.
_STAR_NORMALS = (
    (0.0, -1.0),
    (0.951057, -0.309017),
    (0.587785, 0.809017),
    (-0.587785, 0.809017),
    (-0.951057, -0.309017),
)
_HALF_SQRT3 = 0.866025
_HALF_SQRT2 = 0.707107


def _box(x: Field, y: Field, half_width: float, half_height: float) -> Field:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _circle(x: Field, y: Field) -> Field:
    return np.sqrt(x * x + y * y) - 0.92


def _square(x: Field, y: Field) -> Field:
    return _box(x, y, 0.8, 0.8)


def _triangle(x: Field, y: Field) -> Field:
    y = y + 0.2
    return np.maximum(-y, _HALF_SQRT3 * np.abs(x) + 0.5 * y) - 0.56


def _star(x: Field, y: Field) -> Field:
    # A pentagram is where at most one of five half-planes is left: the second greatest distance.
    first = second = np.full_like(x, -np.inf)
    for nx, ny in _STAR_NORMALS:
        side = nx * x + ny * y
        second = np.maximum(second, np.minimum(first, side))
        first = np.maximum(first, side)
    return second - 0.345


def _heart(x: Field, y: Field) -> Field:
    # A square standing on its corner, with a half disc on each upper side.
    x, y = np.abs(x), y + 0.08
    reach = 0.56
    square = (x + np.abs(y)) * _HALF_SQRT2 - reach
    dx, dy = x - reach * _HALF_SQRT2, y - reach * _HALF_SQRT2
    return np.minimum(square, np.sqrt(dx * dx + dy * dy) - reach)


def _cross(x: Field, y: Field) -> Field:
    return np.minimum(_box(x, y, 0.3, 0.92), _box(x, y, 0.92, 0.3))


def _ring(x: Field, y: Field) -> Field:
    return np.abs(np.sqrt(x * x + y * y) - 0.66) - 0.28


def _diamond(x: Field, y: Field) -> Field:
    return (np.abs(x) + 0.62 * np.abs(y) - 0.62) * 0.849891


def _crescent(x: Field, y: Field) -> Field:
    x = x - 0.12
    dx = x - 0.46
    outer = np.sqrt(x * x + y * y) - 0.95
    return np.maximum(outer, 0.7 - np.sqrt(dx * dx + y * y))


def _arrow(x: Field, y: Field) -> Field:
    x = np.abs(x)
    head = np.maximum(-0.02 - y, (x + 0.86 * y - 0.83) * 0.758179)
    shaft = np.maximum(x - 0.3, np.abs(y + 0.43) - 0.52)
    return np.minimum(head, shaft)


OUTLINES: dict[str, Callable[[Field, Field], Field]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "ring": _ring,
    "diamond": _diamond,
    "crescent": _crescent,
    "arrow": _arrow,
}


def coverage(distance: Field) -> Field:
    """Return how much of each pixel lies inside, 0 to 1, from signed distances in pixels."""
    return np.minimum(np.maximum(0.5 - distance, 0.0), 1.0)


def bands(along: np.ndarray, period: float, phase: float) -> np.ndarray:
    """Return 1 on every other half period of `along`, 0 between, with edges one pixel soft.

    Args:
        along: any shape; coordinates in pixels.
        period: in pixels.
        phase: in periods.
    """
    turns = along * (1.0 / period) + phase
    return coverage((np.abs(turns - np.floor(turns) - 0.5) - 0.25) * period)


def checks(x: Field, y: Field, period: float, phase: float) -> Field:
    """Return 1 and 0 on alternate squares of half a period, with edges one pixel soft."""
    a, b = bands(x, period, phase), bands(y, period, phase)
    return a + b - 2.0 * a * b


def dots(x: Field, y: Field, period: float, phase: float) -> Field:
    """Return 1 on discs, one a square of one period, and 0 between."""
    u, v = x * (1.0 / period) + phase, y * (1.0 / period) + phase
    u, v = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return coverage((np.sqrt(u * u + v * v) - 0.32) * period)
