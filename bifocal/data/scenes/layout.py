"""Sample scenes: what is there, how big, and where, so that every asserted fact is plain to see.

Knows: the distribution of scenes and the geometry that keeps things apart. Must not know: pixels
or words. Things stand in the cells of a block, blocks are disjoint, and a relation holds between
blocks as wholes; nothing is placed by rejection, so the cost of a scene is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from bifocal.data.scenes.draws import Draws
from bifocal.data.scenes.scene import Background, Group, Scene
from bifocal.data.scenes.vocabulary import (
    BACKGROUND_TONES,
    COLOURS,
    MIN_CONTRAST,
    OPPOSITE,
    POSITIONS,
    RGB,
    SIZES,
    TEXTURES,
    Pair,
)

Point: TypeAlias = tuple[float, float]

_MARGIN = 0.025
_SPAN = 1.0 - 2.0 * _MARGIN
_GAP = 0.03  # between the blocks of two groups
_HALF = (_SPAN - _GAP) / 2.0  # what a block may take of the axis of its relation
_ROOM = 1.04  # a cell's side over its thing's diameter

_SIZE_NAMES = tuple(SIZES)
_POSITION_NAMES = tuple(POSITIONS)
_TEXTURE_WEIGHTED = ("solid",) * 2 + TEXTURES[1:]
_COUNT_WEIGHTED = (1, 1, 1, 1, 2, 2, 3, 3, 4, 4)
_BACKGROUND_KINDS = ("plain", "gradient", "noise", "stripes", "checks")
_GRIDS = {  # count -> blocks of (columns, rows) that may hold it
    1: ((1, 1),),
    2: ((2, 1), (1, 2), (2, 2)),
    3: ((3, 1), (1, 3), (2, 2)),
    4: ((2, 2), (2, 2), (4, 1), (1, 4), (3, 2), (2, 3)),
}


@dataclass(frozen=True, slots=True)
class _Block:
    """The grid of cells that a group's things stand in."""

    size: str
    radius: float
    columns: int
    rows: int

    @property
    def width(self) -> float:
        return self.columns * self.radius * 2.0 * _ROOM

    @property
    def height(self) -> float:
        return self.rows * self.radius * 2.0 * _ROOM


def _fit(draws: Draws, count: int, max_width: float, max_height: float) -> _Block:
    """Return a block for `count` things; a size that cannot fit gives way to the next."""
    first = draws.below(3)
    for step in range(3):
        size = _SIZE_NAMES[(first + step) % 3]
        low, high = SIZES[size]
        radius = draws.uniform(low, high)
        cell = radius * 2.0 * _ROOM
        fits = [g for g in _GRIDS[count] if g[0] * cell <= max_width and g[1] * cell <= max_height]
        if fits:
            columns, rows = draws.choice(fits)
            return _Block(size, radius, columns, rows)
    raise AssertionError(f"no block holds {count} things in {max_width} by {max_height}")


def _stand(
    draws: Draws, block: _Block, count: int, corner: Point, extent: Point
) -> tuple[Point, ...]:
    """Return centres of `count` things in distinct cells of the rectangle given to the block."""
    cell_width, cell_height = extent[0] / block.columns, extent[1] / block.rows
    cells = [(c, r) for r in range(block.rows) for c in range(block.columns)]
    while len(cells) > count:
        cells.pop(draws.below(len(cells)))
    loose_x, loose_y = cell_width / 2.0 - block.radius, cell_height / 2.0 - block.radius
    return tuple(
        (
            corner[0] + (c + 0.5) * cell_width + draws.uniform(-loose_x, loose_x),
            corner[1] + (r + 0.5) * cell_height + draws.uniform(-loose_y, loose_y),
        )
        for c, r in cells
    )


def _group(draws: Draws, pair: Pair, block: _Block, centres: tuple[Point, ...]) -> Group:
    return Group(
        colour=pair[0],
        shape=pair[1],
        texture=draws.choice(_TEXTURE_WEIGHTED),
        size=block.size,
        radius=block.radius,
        centres=centres,
        turn=draws.uniform(-0.1, 0.1),
        grain=draws.below(4),
        phase=draws.uniform(0.0, 1.0),
    )


def _stretched(draws: Draws, need: float, limit: float) -> float:
    """Return an extent from `need` to half as much again, within the limit."""
    return draws.uniform(need, min(limit, need * 1.5))


def _free_group(draws: Draws, pair: Pair, count: int) -> Group:
    block = _fit(draws, count, _SPAN, _SPAN)
    width = _stretched(draws, block.width, _SPAN)
    height = _stretched(draws, block.height, _SPAN)
    corner = (
        _MARGIN + draws.uniform(0.0, _SPAN - width),
        _MARGIN + draws.uniform(0.0, _SPAN - height),
    )
    return _group(draws, pair, block, _stand(draws, block, count, corner, (width, height)))


def _anchored(draws: Draws, anchor: str, need: float) -> float:
    """Return where an extent begins so that it clearly lies low, high or in the middle."""
    match anchor:
        case "low":
            return _MARGIN + draws.uniform(0.0, 0.06)
        case "high":
            return 1.0 - _MARGIN - need - draws.uniform(0.0, 0.06)
        case _:
            return (1.0 - need) / 2.0 + draws.uniform(-0.04, 0.04)


def _positioned_group(draws: Draws, pair: Pair, count: int, position: str) -> Group:
    across, down = POSITIONS[position]
    limit = {"low": _HALF, "high": _HALF, "middle": 0.7}
    block = _fit(draws, count, limit[across], limit[down])
    corner = (_anchored(draws, across, block.width), _anchored(draws, down, block.height))
    extent = (block.width, block.height)
    return _group(draws, pair, block, _stand(draws, block, count, corner, extent))


def _along(draws: Draws, first: float, second: float) -> tuple[float, float]:
    """Return where two extents begin on one axis, the first wholly before the second."""
    slack = _SPAN - _GAP - first - second
    shares = [draws.uniform(0.05, 1.0) for _ in range(3)]
    scale = slack / sum(shares)
    start = _MARGIN + shares[0] * scale
    return start, start + first + _GAP + shares[1] * scale


def _across(draws: Draws, first: float, second: float) -> tuple[float, float]:
    """Return where two extents begin on the other axis, in one band: "left of" is plain to see."""
    need = max(first, second)
    band = min(_SPAN, need + draws.uniform(0.0, 0.15))
    start = _MARGIN + draws.uniform(0.0, _SPAN - band)
    return start + draws.uniform(0.0, band - first), start + draws.uniform(0.0, band - second)


def _related_groups(
    draws: Draws, pairs: tuple[Pair, Pair], counts: tuple[int, int], sideways: bool
) -> tuple[Group, Group]:
    """Return two groups, the first wholly left of the second (`sideways`) or wholly above it."""
    limit = (_HALF, _SPAN) if sideways else (_SPAN, _HALF)
    a, b = (_fit(draws, count, *limit) for count in counts)
    if sideways:
        xs, ys = _along(draws, a.width, b.width), _across(draws, a.height, b.height)
    else:
        ys, xs = _along(draws, a.height, b.height), _across(draws, a.width, b.width)
    first, second = (
        _group(draws, pair, block, _stand(draws, block, count, corner, (block.width, block.height)))
        for pair, block, count, corner in zip(
            pairs, (a, b), counts, zip(xs, ys, strict=True), strict=True
        )
    )
    return first, second


def _contrast(tone: RGB, groups: tuple[Group, ...]) -> float:
    """Return the least distance between a background tone and the groups' main tones."""
    return min(
        sum((a - b) ** 2 for a, b in zip(tone, COLOURS[g.colour].main, strict=True)) ** 0.5
        for g in groups
    )


def _background(draws: Draws, groups: tuple[Group, ...]) -> Background:
    """Return a background on which every group stands out."""
    kind = draws.choice(_BACKGROUND_KINDS)
    first = draws.below(len(BACKGROUND_TONES))
    crisp = kind in ("stripes", "checks")
    faint = int(draws.uniform(10.0, 16.0) if crisp else draws.uniform(18.0, 34.0))
    for step in range(len(BACKGROUND_TONES)):
        near = BACKGROUND_TONES[(first + step) % len(BACKGROUND_TONES)]
        shift = faint if near[1] < 128 else -faint
        far = (near[0] + shift, near[1] + shift, near[2] + shift)
        if min(_contrast(near, groups), _contrast(far, groups)) >= MIN_CONTRAST:
            break
    else:
        raise AssertionError("some pair of colours stands out on no background tone")
    return Background(
        kind=kind,
        near=near,
        far=far,
        direction=draws.below(4),
        period=draws.uniform(0.22, 0.34),
        phase=draws.uniform(0.0, 1.0),
        lattice=draws.lattice(6) if kind == "noise" else None,
    )


def sample_class_scene(draws: Draws, pair: Pair) -> Scene:
    """Return a scene of one thing of the given (colour, shape), anywhere, in any guise."""
    group = _free_group(draws, pair, 1)
    return Scene((group,), None, None, _background(draws, (group,)))


def sample_related_scene(draws: Draws, pairs: tuple[Pair, ...], *, alike: float = 0.0) -> Scene:
    """Return a scene of two groups whose (colour, shape) pairs are different ones of `pairs`.

    A share `alike` of the scenes has groups of one colour, so that only shapes tell them apart.
    """
    start = draws.below(len(pairs))
    colour = pairs[start][0]
    same = draws.chance(alike)
    others = [n for n, pair in enumerate(pairs) if n != start and (not same or pair[0] == colour)]
    other = draws.choice(tuple(others))
    counts = (draws.choice(_COUNT_WEIGHTED), draws.choice(_COUNT_WEIGHTED))
    sideways = draws.chance(0.5)
    groups = _related_groups(draws, (pairs[start], pairs[other]), counts, sideways)
    relation = "left" if sideways else "above"
    if draws.chance(0.5):
        groups, relation = groups[::-1], OPPOSITE[relation]
    return Scene(groups, None, relation, _background(draws, groups))


def sample_scene(draws: Draws, pairs: tuple[Pair, ...]) -> Scene:
    """Return a training scene: two groups, or one that stands at a named position or free.

    Colours and counts alone tell most scenes of a batch apart, which leaves little reason to look
    at shapes. Plain scenes of one thing, and groups of one colour, are frequent for that reason.
    """
    kind = draws.uniform(0.0, 1.0)
    if kind < 0.25:
        return sample_related_scene(draws, pairs, alike=0.5)
    pair = draws.choice(pairs)
    count = 1 if draws.chance(0.7) else draws.choice(_COUNT_WEIGHTED)
    if kind < 0.4:
        position = draws.choice(_POSITION_NAMES)
        group = _positioned_group(draws, pair, count, position)
        return Scene((group,), position, None, _background(draws, (group,)))
    group = _free_group(draws, pair, count)
    return Scene((group,), None, None, _background(draws, (group,)))
