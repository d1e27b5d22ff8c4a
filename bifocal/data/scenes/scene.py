"""What a scene is: groups of things, where they stand, and what lies behind them.

Knows: the facts that pictures are drawn from and captions are true of. Must not know: how facts
are sampled, drawn or phrased. Lengths are fractions of the picture's side; x grows to the right,
y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from bifocal.data.scenes.vocabulary import RGB, Pair


@dataclass(frozen=True, slots=True)
class Group:
    """One to four equal things.

    Attributes:
        radius: half the extent of one thing, as a fraction of the picture.
        centres: (x, y) of each thing.
        turn: tangent of half the angle by which each thing is turned.
        grain: direction of the texture, 0 to 3.
        phase: offset of the texture in periods, 0 to 1.
    """

    colour: str
    shape: str
    texture: str
    size: str
    radius: float
    centres: tuple[tuple[float, float], ...]
    turn: float
    grain: int
    phase: float

    @property
    def count(self) -> int:
        """How many things the group has."""
        return len(self.centres)

    @property
    def pair(self) -> Pair:
        """The (colour, shape) pair, which decides whether training may see the group."""
        return self.colour, self.shape


@dataclass(frozen=True, slots=True)
class Background:
    """Two muted tones and the pattern that mixes them.

    Attributes:
        kind: "plain", "gradient", "noise", "stripes" or "checks".
        near, far: the two tones.
        direction: of the gradient or the stripes, 0 to 3.
        period: of stripes or checks, as a fraction of the picture.
        phase: offset of the pattern in periods, 0 to 1.
        lattice: values 0 to 255 that soft noise interpolates; None for the other kinds.
    """

    kind: str
    near: RGB
    far: RGB
    direction: int
    period: float
    phase: float
    lattice: Float32[np.ndarray, "side side"] | None


@dataclass(frozen=True, slots=True)
class Scene:
    """One group, perhaps at a named position; or two groups, one related to the other.

    Attributes:
        groups: one or two; of two, the (colour, shape) pairs differ.
        position: key of `POSITIONS` where the only group stands, or None.
        relation: where groups[0] stands as seen from groups[1] ("left", "right", "above",
            "below"), or None when there is one group.
        background: what lies behind.
    """

    groups: tuple[Group, ...]
    position: str | None
    relation: str | None
    background: Background
