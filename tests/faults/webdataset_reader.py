"""Reads damaged shards with webdataset's own reader; runs where webdataset is installed.

    PYTHON webdataset_reader.py WHOLE.tar DAMAGED.tar …

prints how many pairs of each damaged shard are those of the whole one, as JSON.
"""

from __future__ import annotations

import json
import sys
import tarfile

import webdataset


def whole_pairs(path: str, expected: dict[str, bytes]) -> int:
    """Return how many pairs are read as they were written; what fails is skipped."""
    skip = webdataset.ignore_and_continue
    shards = webdataset.WebDataset(path, handler=skip, shardshuffle=False)
    found = set()
    for sample in shards:
        members = {f"{sample['__key__']}.{kind}": sample.get(kind) for kind in ("jpg", "txt")}
        if all(expected.get(name) == data for name, data in members.items()):
            found.add(sample["__key__"])
    return len(found)


with tarfile.open(sys.argv[1]) as archive:
    contents = {m.name: archive.extractfile(m).read() for m in archive}
print(json.dumps([whole_pairs(path, contents) for path in sys.argv[2:]]))
