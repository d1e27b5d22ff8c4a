"""`bifocal tokenizer`: learns a vocabulary from captions, and shows what one does to a text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bifocal.data.sample import Source
from bifocal.data.sources import Reading, open_source
from bifocal.errors import DataError, TokenizerError
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.inputs.vocabulary import train_tokenizer
from bifocal.pretrained import TOKENIZER, find_model
from bifocal.train.recipe import DATA_ROOT

app = typer.Typer(no_args_is_help=True, help="Learn a vocabulary, or look into one.")


@app.command("train")
def train(
    data: Annotated[str, typer.Argument(help="Pairs, or a text file with one caption a line.")],
    out: Annotated[
        Path, typer.Argument(help="Where the vocabulary is written, as tokenizer.json.")
    ],
    vocab_size: Annotated[int, typer.Option(help="Largest number of ids.")] = 8192,
    context_length: Annotated[int, typer.Option(help="Ids of a caption, both ends included.")] = 77,
) -> None:
    """Learn the most frequent merges of the captions at hand."""
    tokenizer = train_tokenizer(_captions(data), vocab_size, context_length)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tokenizer.save(out)
    except OSError as error:
        raise TokenizerError(f"cannot write {out}: {error.strerror}") from None
    Console().print(f"{tokenizer.vocab_size:,} ids in {out}", highlight=False)


@app.command("show")
def show(
    vocabulary: Annotated[Path, typer.Argument(help="A tokenizer.json, or a model's folder.")],
    text: Annotated[str, typer.Argument(help="What to tokenize.")],
) -> None:
    """Print the ids of a text and what each stands for."""
    path = find_model(vocabulary) / TOKENIZER if vocabulary.is_dir() else vocabulary
    tokenizer = Tokenizer.load(path)
    ids, truncated = tokenizer.encode_caption(text)
    console = Console(soft_wrap=True)
    names = {tokenizer.start: "start of text", tokenizer.end: "end of text"}
    for number in ids:
        shown = names.get(number) or repr(tokenizer.decode([number]))
        console.print(f"{number:>7}  {shown}", highlight=False, markup=False)
    if truncated:
        console.print(f"cut to the context of {tokenizer.context_length}", highlight=False)


def _captions(data: str) -> Iterator[str]:
    root = Path(os.environ.get(DATA_ROOT, ""))
    if data.endswith(".txt"):
        try:
            yield from (root / data).read_text("utf-8", "replace").splitlines()
        except OSError as error:
            raise DataError(f"cannot read {root / data}: {error.strerror}") from None
        return
    source: Source = open_source(data, Reading(root=root))
    for index in range(len(source)):
        try:
            yield from source.captions(index)
        except DataError:
            continue  # a damaged caption teaches nothing
