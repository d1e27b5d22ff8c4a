"""Labelled pictures in folders: one a class, and CLIP_benchmark's layout."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tar_files
from PIL import Image

from bifocal.data.benchmark_folder import is_benchmark_folder, open_benchmark_folder
from bifocal.data.class_folders import ClassFolderSource, has_class_folders
from bifocal.errors import ConfigError, DataError


def picture(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (level, level, level)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = ("tabby_cat/b.png", "tabby_cat/a/2.JPG", "owl/1.webp", "owl/notes.txt", "owl/.x.png")
    hidden = (".cache/1.png", "__MACOSX/1.png", "owl/.thumbs/1.png")
    for n, name in enumerate((*files, *hidden)):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(n))
    (tmp_path / "set" / "empty").mkdir()
    return tmp_path / "set"


@pytest.mark.behaviour
def test_folders_are_classes_in_alphabetical_order(root: Path):
    source = ClassFolderSource(root, templates=("a {}",))
    assert source.class_names == ("empty", "owl", "tabby cat")
    assert source.folders == ("empty", "owl", "tabby_cat")
    assert source.shard_sizes == (0, 1, 2)
    samples = [source.read(n) for n in range(len(source))]
    assert [one.key for one in samples] == ["owl/1.webp", "tabby_cat/a/2.JPG", "tabby_cat/b.png"]
    assert [one.label for one in samples] == [1, 2, 2]
    assert samples[0].image == (root / "owl" / "1.webp").read_bytes()
    assert samples[0].captions == source.captions(0) == ("an owl",)
    assert source.place(2) == "tabby_cat"
    assert ClassFolderSource(root).captions(0) == ()
    assert has_class_folders(root)


@pytest.mark.behaviour
def test_what_a_folder_holds_is_its_identity(root: Path):
    identity = ClassFolderSource(root).identity
    assert ClassFolderSource(root).identity == identity
    assert ClassFolderSource(root, ("a", "b", "c")).identity != identity
    (root / "owl" / "2.png").write_bytes(picture(9))
    assert ClassFolderSource(root).identity != identity


@pytest.mark.behaviour
def test_folders_without_classes_are_refused(root: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="2 class names for the 3 folders"):
        ClassFolderSource(root, ("a", "b"))
    with pytest.raises(DataError, match="no folder in"):
        ClassFolderSource(root / "empty")
    (tmp_path / "none" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="no picture in the folders"):
        ClassFolderSource(tmp_path / "none")
    assert not has_class_folders(tmp_path / "none")
    assert not has_class_folders(tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot read the folder"):
        ClassFolderSource(tmp_path / "nowhere")
    source = ClassFolderSource(root)
    (root / "owl" / "1.webp").unlink()
    with pytest.raises(DataError, match="missing picture"):
        source.read(0)


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """A data set as CLIP_benchmark 1.6's `convert_dataset` writes it."""
    folder = tmp_path / "wds"
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("cat\nbarn owl\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n{c}\n")
    for shard in range(11):
        files = {f"s{shard:07d}.png": picture(shard), f"s{shard:07d}.cls": str(shard % 2).encode()}
        tar_files.write(folder / "test" / f"{shard}.tar", files)
    (folder / "test" / "nshards.txt").write_text("11\n")
    return folder


@pytest.mark.behaviour
def test_a_folder_of_clip_benchmark_is_read_with_its_prompts(benchmark: Path):
    assert is_benchmark_folder(benchmark)
    found = open_benchmark_folder(benchmark)
    assert found.source.class_names == ("cat", "barn owl")
    assert found.templates == ("a photo of a {c}.", "{c}")
    # Shards count by their number: 10.tar is the last, not the third.
    labels = [found.source.read(n).label for n in range(11)]
    assert labels == [n % 2 for n in range(11)]
    assert found.source.read(10).key == "s0000010"
    (benchmark / "test" / "nshards.txt").unlink()
    assert is_benchmark_folder(benchmark)
    assert open_benchmark_folder(benchmark).source.read(10).key == "s0000010"


@pytest.mark.behaviour
def test_pictures_of_several_classes_have_an_array_each(benchmark: Path):
    (benchmark / "dataset_type.txt").write_text("multilabel\n")
    (benchmark / "test" / "nshards.txt").write_text("1")
    one = open_benchmark_folder(benchmark).source.identity
    files: dict[str, bytes] = {}
    for n, row in enumerate(([1, 1], [0, 1], [0, 0])):
        array = io.BytesIO()
        np.save(array, np.array(row, np.int64))
        files |= {f"s{n}.png": picture(n), f"s{n}.npy": array.getvalue()}
    tar_files.write(benchmark / "test" / "0.tar", files)
    found = open_benchmark_folder(benchmark)
    assert found.multi_label
    assert [found.source.labels(n) for n in range(3)] == [(0, 1), (1,), ()]
    assert {found.source.read(n).label for n in range(3)} == {None}
    assert found.source.identity != one
    # Arrays may be of anything: for who expects one class a picture they are not there.
    (benchmark / "dataset_type.txt").unlink()
    with pytest.raises(DataError, match="3x picture without caption"):
        open_benchmark_folder(benchmark)
    # What was kept of the shards then does not blind those who ask for several.
    again = open_benchmark_folder(benchmark, multi_label=True)
    assert [again.source.labels(n) for n in range(3)] == [(0, 1), (1,), ()]


@pytest.mark.behaviour
def test_captions_stand_one_a_line(benchmark: Path):
    (benchmark / "dataset_type.txt").write_text("retrieval\n")
    (benchmark / "classnames.txt").unlink()
    (benchmark / "test" / "nshards.txt").write_text("1")
    files = {"s0.png": picture(0), "s0.txt": b"a cat\n the cat \n\nit sits"}
    tar_files.write(benchmark / "test" / "0.tar", files)
    source = open_benchmark_folder(benchmark).source
    assert source.read(0).captions == ("a cat", "the cat", "it sits")
    assert source.class_names == ()


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classnames.txt", "", "has no classnames.txt"),
        ("test/nshards.txt", "12", "1 of the 12 shards .* missing, as 11.tar"),
        ("test/nshards.txt", "many", "expected a number of shards"),
    ],
)
def test_what_is_missing_is_named(benchmark: Path, name, text, message):
    (benchmark / name).write_text(text)
    with pytest.raises(DataError, match=message):
        open_benchmark_folder(benchmark)
