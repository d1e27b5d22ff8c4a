"""open_clip's zero-shot classifier, for any model that is called as its are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from bifocal.compat.towers import OpenClipModel
from bifocal.model.prefixes import FEW, read_rows


@torch.no_grad()
def build_zero_shot_classifier(
    model: Any,
    tokenizer: Callable[[Sequence[str]], Tensor],
    classnames: Sequence[str],
    templates: Sequence[str | Callable[[str], str]],
    num_classes_per_batch: int | None = 10,
    device: str | torch.device = "cpu",
    use_tqdm: bool = False,
) -> Float[Tensor, "embed_dim classes"]:
    """Return one column of unit norm a class: its prompts averaged in embedding space.

    Args:
        model: anything with `encode_text(tokens, normalize=True)`.
        tokenizer: texts to rows of ids.
        classnames: one a class.
        templates: format strings with {}, or functions of the name.
        num_classes_per_batch: classes in one forward pass, None for all; where a model of bifocal's
            has many prompts to read, it reads together what begins alike instead.
        device: where the tokens go.
        use_tqdm: accepted; progress is not shown.
    """
    texts = [t.format(c) if isinstance(t, str) else t(c) for c in classnames for t in templates]
    if isinstance(model, OpenClipModel) and len(set(texts)) > FEW:
        features = _read_together(model, tokenizer(texts))
    else:
        step = (num_classes_per_batch or len(classnames)) * len(templates)
        parts = [texts[first : first + step] for first in range(0, len(texts), step)]
        features = torch.cat(
            [model.encode_text(tokenizer(part).to(device), normalize=True) for part in parts]
        )
    means = features.unflatten(0, (len(classnames), len(templates))).mean(dim=1)
    return (means / means.norm(dim=1, keepdim=True)).T.contiguous()


def _read_together(
    model: OpenClipModel, tokens: Int[Tensor, "texts length"]
) -> Float[Tensor, "texts embed_dim"]:
    """Return features of unit norm of texts of which many begin alike."""
    ends = tokens.argmax(dim=1).tolist()
    rows = [tuple(row[: end + 1]) for row, end in zip(tokens.tolist(), ends, strict=True)]
    return F.normalize(read_rows(model, rows), dim=-1)
