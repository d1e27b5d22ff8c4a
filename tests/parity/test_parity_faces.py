"""The drop-in faces and the peers themselves on the same folder, pictures, texts and seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

import bifocal.compat.clip as clip_face
import bifocal.compat.open_clip as face
from bifocal.inputs.tokenizer import END, START, Tokenizer
from bifocal.interop import open_clip as folders
from bifocal.model.config import CLIPConfig

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

SIZES = [(97, 61), (61, 97), (16, 16), (16, 40), (300, 17), (5, 9)]


@pytest.fixture
def folder(tiny: CLIPConfig, random_pretrained: Callable, tmp_path: Path) -> str:
    folders.write(random_pretrained(tiny), tmp_path)
    return f"local-dir:{tmp_path}"


def test_the_same_program_gives_the_same_numbers(
    folder: str, open_clip: ModuleType, picture: Image.Image
) -> None:
    seen = []
    for package in (face, open_clip):
        model, train, evaluate = package.create_model_and_transforms(folder)
        assert model.training
        model.eval()
        torch.manual_seed(3)
        images = torch.stack([evaluate(picture), train(picture)])
        tokens = package.get_tokenizer(folder)(["ab abacus", "it's 42"])
        classifier = package.build_zero_shot_classifier(
            model, package.get_tokenizer(folder), ["ab", "ac"], ["a {}.", "the {}"], 1
        )
        with torch.no_grad():
            seen.append((images, *model(images, tokens), classifier))
        assert tuple(model.visual.image_mean) == face.OPENAI_DATASET_MEAN
    mine, theirs = seen
    assert torch.equal(mine[0], theirs[0])
    for one, other in zip(mine[1:], theirs[1:], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
def test_pictures_are_prepared_bit_for_bit(
    size: tuple[int, int], mode: str, resize_mode: str, open_clip: ModuleType, picture: Image.Image
) -> None:
    given = picture.resize(size).convert(mode)
    mine = face.image_transform(16, False, resize_mode=resize_mode)(given)
    assert torch.equal(mine, open_clip.image_transform(16, False, resize_mode=resize_mode)(given))


@pytest.mark.parametrize("size", SIZES)
def test_random_crops_are_the_same(
    size: tuple[int, int], open_clip: ModuleType, picture: Image.Image
) -> None:
    given = picture.resize(size)
    for seed in range(5):
        for options in ({}, {"scale": (0.1, 0.3)}):
            torch.manual_seed(seed)
            mine = face.image_transform(16, True, aug_cfg=options or None)(given)
            torch.manual_seed(seed)
            theirs = open_clip.image_transform(16, True, aug_cfg=options or None)(given)
            assert torch.equal(mine, theirs)


def test_names_are_open_clips(open_clip: ModuleType) -> None:
    assert set(face.list_models()) <= set(open_clip.list_models()) | no_quick(open_clip)
    for name, tag in face.list_pretrained():
        theirs = open_clip.pretrained.get_pretrained_cfg(name.removesuffix("-quickgelu"), tag)
        assert theirs, (name, tag)


def no_quick(open_clip: ModuleType) -> set[str]:
    return {f"{name}-quickgelu" for name in open_clip.list_models()}


def test_repositories_are_open_clips(open_clip: ModuleType) -> None:
    from bifocal.compat.open_clip_tags import TAGS

    for name, tags in TAGS.items():
        for tag, repository in tags.items():
            theirs = open_clip.pretrained.get_pretrained_cfg(name, tag)["hf_hub"].rstrip("/")
            assert repository == theirs or repository.startswith("openai/"), (name, tag)


@pytest.fixture
def reference(open_clip: ModuleType, vocabulary: Path):
    """open_clip's tokenizer with OpenAI's names of the special tokens: OpenAI's own."""
    theirs = open_clip.SimpleTokenizer(str(vocabulary))
    pattern = theirs.pat.pattern
    for mark, other in ((START, "<start_of_text>"), (END, "<end_of_text>")):
        theirs.encoder[mark] = theirs.encoder.pop(other)
        theirs.cache[mark] = mark
        del theirs.cache[other]
        pattern = pattern.replace(other, mark.replace("|", r"\|"))
    import regex

    theirs.pat = regex.compile(pattern, regex.IGNORECASE)
    return theirs


def test_ids_are_the_references_on_strings_made_to_break_them(reference, vocabulary: Path) -> None:
    import random

    draw, mine = random.Random(5), Tokenizer.load(vocabulary)
    alphabets = [range(128), range(0x250), range(0x3000), range(0xE000, 0x110000)]
    pieces = ["&amp;", "&#28;", "â€™", "’", "'s", START, END, "<|STARTOFTEXT|>", "ﬁ", "İ", "ſ"]
    pieces += [
        "\u200d",
        "\x85",
        "\x1c",
        "\n",
        "\t",
        "  ",
        "the ",
        "Cat",
        "12",
        "猫",
        "😀",
        "e\u0301",
    ]
    for _ in range(4000):
        random_text = "".join(chr(draw.choice(draw.choice(alphabets))) for _ in range(8))
        text = "".join(draw.choices([*pieces, random_text], k=draw.randrange(12)))
        assert mine.encode(text) == reference.encode(text), repr(text)


def test_rows_are_the_references(
    reference, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(clip_face.VOCABULARY, str(vocabulary))
    clip_face.published_tokenizer.cache_clear()
    texts = ["", "a cat", "word " * 75, "word " * 76]
    ids = reference.encode("a naïve 猫 — 10% off!")
    assert face.get_tokenizer("ViT-B-32").decode(ids) == reference.decode(ids)
    assert torch.equal(face.tokenize(texts), reference(texts))
    assert torch.equal(clip_face.tokenize(texts, truncate=True).long(), reference(texts))
    assert torch.equal(face.get_tokenizer("ViT-B-32")(texts, 9), reference(texts, 9))
    clip_face.published_tokenizer.cache_clear()
