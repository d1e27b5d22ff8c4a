"""Members of an archive to samples: what shares a name up to its first dot (webdataset's layout).

Names may repeat and parts may lie apart, and damage may have taken any of them; a picture is never
joined to a text that may be another's. Knows names only; reads nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from bifocal.data.archive import Member

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
TEXTS = ("txt", "json", "cls")
SUFFIXES = PICTURES + TEXTS
ARRAYS = ("npy",)
"""What says of which classes a picture is, where pictures may be of several; else no part."""
MAX_SIZE = (1 << 30) - 1
"""Bytes of the largest member that is read."""

DUPLICATE = "name that occurs twice"
NO_TEXT = "picture without caption"
NO_PICTURE = "caption without picture"
TOO_LARGE = "member of a gigabyte or more"

Parts = dict[str, Member]


def pair(
    members: Iterable[Member], suffixes: Collection[str] = SUFFIXES
) -> tuple[list[tuple[str, Parts]], Counter[str]]:
    """Return (key, members by suffix) of each sample with a picture and a text or label.

    Args:
        members: of an archive.
        suffixes: of what is a part of a sample; of the others nothing is known.

    Members of one name that follow each other belong together, until a suffix comes again. Parts
    that lie apart are joined only if no suffix occurs twice under their name; else the first whole
    group stands for the name. What is left out is counted by its reason.
    """
    losses: Counter[str] = Counter()
    groups: dict[str, list[Parts]] = {}
    last, parts = "", Parts()
    for member in members:
        key, suffix = split_name(member.name)
        if suffix not in suffixes:
            continue
        if member.size > MAX_SIZE:
            losses[TOO_LARGE] += 1
            continue
        if key != last or suffix in parts:
            last, parts = key, {}
            groups.setdefault(key, []).append(parts)
        parts[suffix] = member
    samples = []
    for key, found in groups.items():
        chosen = found[0] if len(found) == 1 else _join(found, losses)
        missing = _missing(chosen)
        if missing:
            losses[missing] += 1
        else:
            samples.append((key, chosen))
    return samples, losses


def split_name(name: str) -> tuple[str, str]:
    """Return a member's key and its suffix in lower case; ("", "") for a hidden file."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return (folder + slash + stem, suffix.lower()) if stem else ("", "")


def _join(groups: list[Parts], losses: Counter[str]) -> Parts:
    joined = {suffix: member for parts in groups for suffix, member in parts.items()}
    if len(joined) == sum(map(len, groups)):
        return joined
    whole = [parts for parts in groups if not _missing(parts)]
    losses[DUPLICATE] += len(groups) - 1
    return whole[0] if whole else groups[0]


def _missing(parts: Parts) -> str:
    if not any(suffix in parts for suffix in PICTURES):
        return NO_PICTURE
    return "" if any(suffix in parts for suffix in TEXTS + ARRAYS) else NO_TEXT
