"""Draw a scene: background, then each group's sprite at each of its places.

Knows: pixels. Must not know: how scenes are sampled or phrased. Edges are anti-aliased
analytically, from signed distances, so a picture looks right at any size without oversampling.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8

from bifocal.data.scenes.scene import Background, Group, Scene
from bifocal.data.scenes.shapes import OUTLINES, Field, bands, checks, coverage, dots
from bifocal.data.scenes.vocabulary import COLOURS

Picture: TypeAlias = UInt8[np.ndarray, "height width 3"]

_DIRECTIONS = ((1.0, 0.0), (0.0, 1.0), (0.707107, 0.707107), (0.707107, -0.707107))

# Periods of the textures as fractions of the picture, and the least that a pixel grid can show.
_PERIODS = {"striped": 0.078, "dotted": 0.09, "checkered": 0.115}
_MIN_PERIODS = {"striped": 3.2, "dotted": 3.6, "checkered": 4.4}

# A textured thing keeps a rim of its main tone, this fraction of the picture wide: without it a
# pale stripe at the edge would eat into the outline.
_RIM = 0.014


@lru_cache(maxsize=8)
def _centres(image_size: int) -> Float32[np.ndarray, " size"]:
    """Return the coordinates of pixel centres along one side, read-only, in pixels."""
    line = np.arange(image_size, dtype=np.float32) + np.float32(0.5)
    line.flags.writeable = False
    return line


@lru_cache(maxsize=16)
def _interpolation(image_size: int, side: int) -> Float32[np.ndarray, "size side"]:
    """Return smooth-step weights from `side` lattice points to pixels, whole numbers of 64ths.

    Whole numbers keep both matrix products exact in float32 (64 · 64 · 255 < 2**24), whatever
    order a BLAS sums in.
    """
    position = _centres(image_size) * np.float32((side - 1) / image_size)
    left = np.minimum(np.floor(position), side - 2)
    step = position - left
    right = np.rint(step * step * (3.0 - 2.0 * step) * 64.0)
    weights = np.zeros((image_size, side), np.float32)
    rows = np.arange(image_size)
    weights[rows, left.astype(np.int64)] = 64.0 - right
    weights[rows, left.astype(np.int64) + 1] = right
    weights.flags.writeable = False
    return weights


def _mixture(background: Background, image_size: int) -> Field:
    """Return how much of the far tone each pixel of the background has, 0 to 1."""
    line = _centres(image_size)
    x, y = line[None, :], line[:, None]
    dx, dy = _DIRECTIONS[background.direction]
    period = background.period * image_size
    match background.kind:
        case "plain":
            return np.zeros((image_size, image_size), np.float32)
        case "gradient":
            ramp = dx * x + dy * y
            low, high = ramp.min(), ramp.max()
            ramp = np.broadcast_to((ramp - low) / (high - low), (image_size, image_size))
            return 1.0 - ramp if background.phase < 0.5 else ramp
        case "noise":
            assert background.lattice is not None
            weights = _interpolation(image_size, len(background.lattice))
            return (weights @ background.lattice @ weights.T) * np.float32(1.0 / (4096.0 * 255.0))
        case "stripes":
            stripes = bands(dx * x + dy * y, period, background.phase)
            return np.broadcast_to(stripes, (image_size, image_size))
        case "checks":
            grid = (image_size, image_size)
            x, y = np.broadcast_to(x, grid), np.broadcast_to(y, grid)
            return checks(x, y, period, background.phase)
        case kind:
            raise AssertionError(f"unknown background {kind}")


def _texture(group: Group, x: Field, y: Field, image_size: int) -> Field:
    """Return how much of the second tone each pixel of a sprite has, 0 to 1."""
    period = max(_PERIODS[group.texture] * image_size, _MIN_PERIODS[group.texture])
    match group.texture:
        case "striped":
            dx, dy = _DIRECTIONS[group.grain]
            return bands(dx * x + dy * y, period, group.phase)
        case "dotted":
            return dots(x, y, period, group.phase)
        case "checkered":
            return checks(x, y, period, group.phase)
        case texture:
            raise AssertionError(f"unknown texture {texture}")


def _sprite(
    group: Group, image_size: int
) -> tuple[Float32[np.ndarray, "rows columns 1"], Float32[np.ndarray, "... 3"]]:
    """Return one thing of a group: its coverage, and its colours (one, or one a pixel)."""
    radius = group.radius * image_size
    half = math.ceil(radius) + 1
    line = _centres(2 * half) - np.float32(half)
    # Tangent of the half angle: a turn without sine or cosine.
    square = group.turn * group.turn
    cosine, sine = (1.0 - square) / (1.0 + square), 2.0 * group.turn / (1.0 + square)
    x = cosine * line[None, :] + sine * line[:, None]
    y = sine * line[None, :] - cosine * line[:, None]
    scale = 1.0 / radius
    distance = OUTLINES[group.shape](x * scale, y * scale) * radius
    alpha = coverage(distance)[:, :, None]
    tones = COLOURS[group.colour]
    main = np.array(tones.main, np.float32)
    if group.texture == "solid":
        return alpha, main
    second = np.array(tones.second, np.float32) - main
    share = _texture(group, x, y, image_size) * coverage(distance + _RIM * image_size)
    return alpha, main + share[:, :, None] * second


def render(scene: Scene, image_size: int) -> Picture:
    """Draw a scene as a square picture.

    Args:
        scene: what to draw.
        image_size: side in pixels.

    Returns:
        uint8 "height width 3", red, green, blue.
    """
    background = scene.background
    near = np.array(background.near, np.float32)
    far = np.array(background.far, np.float32)
    canvas = near + _mixture(background, image_size)[:, :, None] * (far - near)
    for group in scene.groups:
        alpha, colours = _sprite(group, image_size)
        body, half = alpha * colours, len(alpha) // 2
        rest = 1.0 - alpha
        for cx, cy in group.centres:
            left, top = int(cx * image_size + 0.5) - half, int(cy * image_size + 0.5) - half
            # A sprite's empty border may reach past the edge of the picture.
            x0, y0 = max(left, 0), max(top, 0)
            x1, y1 = min(left + 2 * half, image_size), min(top + 2 * half, image_size)
            inner = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
            place = canvas[y0:y1, x0:x1]
            place *= rest[inner]
            place += body[inner]
    return (canvas + 0.5).astype(np.uint8)
