"""Does a model read word order: right captions against ones with the same words swapped.

After Winoground (Thrush et al. 2022): both captions hold the same words, so a model that sees a
bag of words scores one half.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from bifocal.data.scenes import BindingPair
from bifocal.pretrained import Pretrained


def binding_accuracy(pretrained: Pretrained, pairs: Iterable[BindingPair]) -> dict[str, float]:
    """Return, for each kind of pair, the share whose right caption scores higher; a tie is half."""
    pairs = list(pairs)
    images = pretrained.encode_image([pair.image for pair in pairs])
    right = pretrained.encode_text([pair.caption for pair in pairs])
    wrong = pretrained.encode_text([pair.wrong_caption for pair in pairs])
    margins = ((images * right).sum(dim=1) - (images * wrong).sum(dim=1)).tolist()
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for pair, margin in zip(pairs, margins, strict=True):
        scores[pair.kind].append(0.5 if margin == 0 else float(margin > 0))
    return {kind: sum(found) / len(found) for kind, found in sorted(scores.items())}
