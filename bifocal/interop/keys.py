"""Names of weights: the same tensors as OpenAI, open_clip and Hugging Face call them.

bifocal's names are OpenAI's. open_clip's `CLIP` shares them and its `CustomTextCLIP` keeps the
text tower under `text.`; Hugging Face's `CLIPModel` renames all, splits `in_proj` into q, k and v
and transposes the projections. Every table is read in both directions, and no tensor's bytes
change on the way there and back. Knows names and layouts; reads no file, builds no model.
"""

from __future__ import annotations

import re
from enum import StrEnum

import torch
from torch import Tensor

from bifocal.errors import CheckpointError

State = dict[str, Tensor]


class Naming(StrEnum):
    """Whose names a state dict uses."""

    OPENAI = "openai"
    CUSTOM_TEXT = "custom_text"
    HUGGINGFACE = "huggingface"


WRAPPERS = ("module.", "_orig_mod.", "_forward_module.")
"""Prefixes that DistributedDataParallel, torch.compile and their like put before a name."""

_TEXT_ROOTS = ("transformer.", "token_embedding.", "ln_final.", "positional_embedding")
_TEXT_PROJECTION = "text_projection"

_HF_NAMES = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
}
_HF_TRANSPOSED = frozenset({"text_projection", "visual.proj"})
_HF_STACKS = {
    "transformer.resblocks.": "text_model.encoder.layers.",
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
}
_HF_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_HF_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_HF_BUFFERS = frozenset(
    {"text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"}
)
"""Row numbers that older transformers saved beside the weights."""

_STACKED = re.compile(r"(?P<stack>.*resblocks\.|.*encoder\.layers\.)(?P<block>\d+)\.(?P<rest>.+)")


def naming(state: State) -> Naming:
    """Return whose names `state` uses, judged by the names that only one of them has.

    Raises:
        CheckpointError: it is no CLIP, or one with a text tower that bifocal does not have.
    """
    if "token_embedding.weight" in state:
        return Naming.OPENAI
    if "text.token_embedding.weight" in state:
        return Naming.CUSTOM_TEXT
    if _HF_NAMES["token_embedding.weight"] in state:
        return Naming.HUGGINGFACE
    shown = ", ".join(sorted(state)[:3]) or "none at all"
    raise CheckpointError(
        "these weights are not those of a CLIP with OpenAI's text tower (no token embedding "
        f"under a known name); their names begin with {shown}"
    )


def to_openai(state: State) -> State:
    """Return `state` under OpenAI's names, whoever named it.

    Raises:
        CheckpointError: a name or a shape is not of any known layout.
    """
    state = strip_wrappers(state)
    match naming(state):
        case Naming.OPENAI:
            named = state
        case Naming.CUSTOM_TEXT:
            named = from_custom_text(state)
        case Naming.HUGGINGFACE:
            named = from_huggingface(state)
    scalars = {n: named[n].reshape(()) for n in ("logit_scale", "logit_bias") if n in named}
    return {**named, **scalars}


def strip_wrappers(state: State) -> State:
    """Return `state` without what wrappers of modules put before, or inside, its names."""
    while state and (found := _shared_wrapper(state)):
        state = {name.removeprefix(found): tensor for name, tensor in state.items()}
    return {name.replace("._orig_mod.", "."): tensor for name, tensor in state.items()}


def to_custom_text(state: State) -> State:
    """Return OpenAI's names as open_clip's `CustomTextCLIP` has them: text under `text.`."""
    return {f"text.{n}" if _is_text(n) else n: tensor for n, tensor in state.items()}


def from_custom_text(state: State) -> State:
    """Return names of open_clip's `CustomTextCLIP` as OpenAI's.

    Raises:
        CheckpointError: the text tower is one that bifocal does not have.
    """
    renamed: State = {}
    for name, tensor in state.items():
        plain = name.removeprefix("text.")
        if name != plain and not _is_text(plain):
            raise CheckpointError(
                f"'{name}' belongs to a text tower that bifocal does not have: only the causal "
                "transformer with a linear projection is known"
            )
        renamed[plain] = tensor
    return renamed


def to_huggingface(state: State) -> State:
    """Return OpenAI's names as those of transformers' `CLIPModel`.

    Raises:
        CheckpointError: the model has what `CLIPModel` has not: a ResNet tower or a logit bias.
    """
    renamed: State = {}
    for name, tensor in state.items():
        if name in _HF_NAMES:
            renamed[_HF_NAMES[name]] = tensor.T.contiguous() if name in _HF_TRANSPOSED else tensor
            continue
        stacked = _STACKED.fullmatch(name)
        if not stacked or stacked["stack"] not in _HF_STACKS:
            raise CheckpointError(f"Hugging Face's CLIPModel has no place for '{name}'")
        block = f"{_HF_STACKS[stacked['stack']]}{stacked['block']}."
        part, _, kind = stacked["rest"].replace("in_proj_", "in_proj.").rpartition(".")
        if part == "attn.in_proj":
            parts = zip(_HF_QKV, tensor.chunk(3), strict=True)
            renamed |= {f"{block}{theirs}.{kind}": piece.contiguous() for theirs, piece in parts}
        elif part in _HF_BLOCK:
            renamed[f"{block}{_HF_BLOCK[part]}.{kind}"] = tensor
        else:
            raise CheckpointError(f"Hugging Face's CLIPModel has no place for '{name}'")
    return renamed


def from_huggingface(state: State) -> State:
    """Return names of transformers' `CLIPModel` as OpenAI's.

    Raises:
        CheckpointError: a name is not `CLIPModel`'s, or one of q, k and v is missing.
    """
    names = {theirs: ours for ours, theirs in _HF_NAMES.items()}
    stacks = {theirs: ours for ours, theirs in _HF_STACKS.items()}
    parts = {theirs: ours for ours, theirs in _HF_BLOCK.items()}
    renamed: State = {}
    qkv: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name in _HF_BUFFERS:
            continue
        if name in names:
            ours = names[name]
            renamed[ours] = tensor.T.contiguous() if ours in _HF_TRANSPOSED else tensor
            continue
        stacked = _STACKED.fullmatch(name)
        part, _, kind = (stacked["rest"] if stacked else "").rpartition(".")
        if not stacked or stacked["stack"] not in stacks or part not in {*parts, *_HF_QKV}:
            raise CheckpointError(f"'{name}' is no weight of Hugging Face's CLIPModel")
        block = f"{stacks[stacked['stack']]}{stacked['block']}."
        if part in parts:
            renamed[f"{block}{parts[part]}.{kind}"] = tensor
        else:
            qkv.setdefault(f"{block}attn.in_proj_{kind}", {})[part] = tensor
    for name, pieces in qkv.items():
        if len(pieces) != 3:
            raise CheckpointError(f"'{name}' needs q, k and v; found only {', '.join(pieces)}")
        renamed[name] = torch.cat([pieces[part] for part in _HF_QKV])
    return renamed


def _shared_wrapper(state: State) -> str | None:
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in state):
            return prefix
    return None


def _is_text(name: str) -> bool:
    return name == _TEXT_PROJECTION or name.startswith(_TEXT_ROOTS)
