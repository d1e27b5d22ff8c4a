"""Where a checkpoint's vocabulary is found, and the files in which Hugging Face keeps one.

Sources without a vocabulary (OpenAI's archives, bare state dicts) mean the published one, which
is not part of bifocal: it is taken from a path, from an installed package that ships it, or from
the hub. A vocabulary that is read must number its symbols as OpenAI's layout does, id by id.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bifocal.errors import CheckpointError, TokenizerError
from bifocal.inputs.tokenizer import Merge, Tokenizer
from bifocal.interop import hub
from bifocal.interop.source import MALFORMED, Hints
from bifocal.model.config import TextConfig

PUBLISHED_SIZE = 49408
PUBLISHED_FILE = "bpe_simple_vocab_16e6.txt.gz"
PACKAGES = ("open_clip", "clip")
"""Installed packages that ship the published vocabulary; they are looked into, not imported."""
HUB_REPOSITORY, HUB_FILE = "openai/clip-vit-base-patch32", "merges.txt"


def find_tokenizer(text: TextConfig, hints: Hints, origin: Path, folder: Path | None) -> Tokenizer:
    """Return the tokenizer of a source, the first that is found of these: what the source's own
    folder holds, what the user gave, a package that ships the published one, the hub.

    Raises:
        TokenizerError: there is none; the message says how to give one.
        CheckpointError: the source's own is not one that bifocal can follow.
    """
    own = read_files(folder, text.context_length) if folder else None
    if own is not None:
        return own
    match hints.vocabulary:
        case Tokenizer() as tokenizer:
            return tokenizer
        case Path() as path:
            return Tokenizer.load(path, text.context_length)
    if text.vocab_size != PUBLISHED_SIZE:
        raise TokenizerError(
            f"{origin} brings no vocabulary, and its {text.vocab_size} ids are not the "
            f"{PUBLISHED_SIZE} of the published one: give the vocabulary that it was trained with"
        )
    shipped = shipped_vocabulary()
    if shipped is not None:
        return Tokenizer.load(shipped, text.context_length)
    try:
        merges = hub.fetch_file(HUB_REPOSITORY, HUB_FILE, hints.cache_dir, hints.offline)
    except CheckpointError as error:
        raise TokenizerError(
            f"{origin} brings no vocabulary: give the path of {PUBLISHED_FILE}, install a package "
            f"that ships it ({' or '.join(PACKAGES)}), or let it be fetched from the hub ({error})"
        ) from None
    return Tokenizer(_merges_of_lines(merges), text.context_length)


def shipped_vocabulary() -> Path | None:
    """Return the published vocabulary's file in an installed package, or None."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(place) / PUBLISHED_FILE).is_file():
                return Path(place) / PUBLISHED_FILE
    return None


def read_files(folder: Path, context_length: int) -> Tokenizer | None:
    """Return the tokenizer in a folder of Hugging Face's or open_clip's, or None without one.

    Raises:
        CheckpointError: the files are damaged, or hold something else than OpenAI's kind of BPE.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            model = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]
            merges = [_merge(entry) for entry in model["merges"]]
            return _checked(merges, model["vocab"], context_length, folder)
        if (folder / "merges.txt").is_file():
            merges = _merges_of_lines(folder / "merges.txt")
            vocab = json.loads((folder / "vocab.json").read_text("utf-8"))
            return _checked(merges, vocab, context_length, folder)
    except MALFORMED as error:
        raise CheckpointError(f"the tokenizer in {folder} cannot be read: {error}") from None
    return None


def write_files(tokenizer: Tokenizer, folder: Path) -> None:
    """Write what transformers' `CLIPTokenizer` reads: vocab.json, merges.txt and two tables."""
    lines = ["#version: 0.2", *(" ".join(merge) for merge in tokenizer.merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "vocab.json").write_text(json.dumps(tokenizer.ids, ensure_ascii=False), "utf-8")
    start, end = (tokenizer.symbol(n) for n in (tokenizer.start, tokenizer.end))
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), "utf-8")
    table = {
        **special,
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": tokenizer.context_length,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(table, indent=2), "utf-8")
    (folder / "tokenizer.json").write_text(
        json.dumps(_fast(tokenizer), ensure_ascii=False), "utf-8"
    )


def write_openai(tokenizer: Tokenizer, path: Path) -> None:
    """Write merges as OpenAI's `SimpleTokenizer(bpe_path)` reads them, under a header."""
    lines = ['"bpe_simple_vocab"', *(" ".join(merge) for merge in tokenizer.merges)]
    path.write_bytes(gzip.compress("\n".join(lines).encode("utf-8"), mtime=0))


def _checked(
    merges: list[Merge], vocab: Mapping[str, int], context_length: int, folder: Path
) -> Tokenizer:
    tokenizer = Tokenizer(merges, context_length)
    if tokenizer.ids != vocab:
        wrong = next((s for s, n in tokenizer.ids.items() if vocab.get(s) != n), None)
        detail = f"'{wrong}' should be {tokenizer.ids[wrong]}" if wrong else "it has more symbols"
        raise CheckpointError(
            f"the tokenizer in {folder} is not OpenAI's kind of byte-level BPE ({detail}): bifocal "
            "would read texts differently from the model's training"
        )
    return tokenizer


def _merges_of_lines(path: Path) -> list[Merge]:
    lines = path.read_text("utf-8").splitlines()
    return [_merge(line) for line in lines if line and not line.startswith("#version")]


def _merge(entry: Any) -> Merge:
    left, right = entry.split(" ") if isinstance(entry, str) else entry
    return str(left), str(right)


def _fast(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the table of the library `tokenizers` that does what transformers' CLIP does."""
    start, end = (tokenizer.symbol(n) for n in (tokenizer.start, tokenizer.end))
    pattern = (
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]"
        r"|[^\s\p{L}\p{N}]+"
    )
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": tokenizer.ids[symbol], "content": symbol, "special": True, **flags}
            for symbol in (start, end)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": pattern},
                    "behavior": "Removed",
                    "invert": True,
                },
                {**byte_level, "use_regex": True},
            ],
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [end, tokenizer.end],
            "cls": [start, tokenizer.start],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": end,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": tokenizer.ids,
            "merges": [list(merge) for merge in tokenizer.merges],
        },
    }
