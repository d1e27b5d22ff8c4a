"""Photographs of several classes each, out of captions: Flickr8k's by the nouns that people share.

A photograph is of a noun if at least two of its five captions hold it, in any of the forms below.
Not what a labeller would say, but said by people who saw the picture: 1.8 nouns a photograph.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from bifocal.data.sample import Source

AGREED = 2
"""Captions that have to hold a noun."""
NOUNS = {
    "dog": r"dogs?",
    "man": r"m[ae]n",
    "woman": r"wom[ae]n",
    "boy": r"boys?",
    "girl": r"girls?",
    "child": r"child(ren)?",
    "people": r"people",
    "water": r"water|pool|lake|ocean|river|sea",
    "grass": r"grass|grassy|lawn",
    "snow": r"snow|snowy",
    "beach": r"beach|sand|shore",
    "ball": r"balls?|football|soccer|basketball",
    "bicycle": r"bikes?|bicycles?|biker|cyclist",
    "street": r"streets?|road|sidewalk",
    "rock": r"rocks?|rocky|cliff|mountain",
    "horse": r"horses?",
    "car": r"cars?",
    "tree": r"trees?|forest|woods",
    "skateboard": r"skateboard(er|ing)?s?",
    "hat": r"hats?|cap",
}
_FORMS = [re.compile(rf"\b({forms})\b", re.IGNORECASE) for forms in NOUNS.values()]


def nouns_of(captions: Sequence[str]) -> list[int]:
    """Return which nouns enough captions of a photograph hold."""
    held = [sum(bool(forms.search(caption)) for caption in captions) for forms in _FORMS]
    return [place for place, count in enumerate(held) if count >= AGREED]


def write_shared_nouns(source: Source, folder: Path) -> None:
    """Write a captioned source as one shard of pictures and numbers of nouns, with their names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.json").write_text(json.dumps(list(NOUNS)), "utf-8")
    with tarfile.open(folder / "nouns.tar", "w") as archive:
        for index in range(len(source)):
            sample = source.read(index)
            assert isinstance(sample.image, bytes)
            numbers = " ".join(map(str, nouns_of(sample.captions)))
            for suffix, content in (("jpg", sample.image), ("cls", numbers.encode())):
                member = tarfile.TarInfo(f"{index:05}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
