"""Tables of paths and captions, saved Hugging Face datasets, and how a path is understood."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from bifocal.data.decode import decode
from bifocal.data.scenes import SceneClassSource, SceneSource
from bifocal.data.sources import Reading, open_source
from bifocal.data.tables import TableSource
from bifocal.errors import ConfigError, DataError

ROWS = [
    {"file_name": "a.png", "caption": 'one, "quoted"', "extra": "1"},
    {"file_name": "sub/b.png", "caption": "zwei ünïcode", "extra": "2"},
    {"file_name": "a.png", "caption": "another of a", "extra": "3"},
    {"file_name": "c.png", "caption": "  ", "extra": "4"},
    {"file_name": "", "caption": "no picture", "extra": "5"},
]
EXPECTED = [("a.png", ('one, "quoted"', "another of a")), ("sub/b.png", ("zwei ünïcode",))]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    match path.suffix:
        case ".csv" | ".tsv":
            with path.open("w", encoding="utf-8", newline="") as file:
                delimiter = "\t" if path.suffix == ".tsv" else ","
                table = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
                table.writeheader()
                table.writerows(rows)
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), "utf-8")
        case ".parquet":
            pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for level, name in ((10, "a.png"), (20, "sub/b.png"), (30, "c.png")):
        Image.new("RGB", (8, 8), (level, 0, 0)).save(tmp_path / name)
    return tmp_path


@pytest.mark.behaviour
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_rows_of_one_picture_are_one_sample(folder, suffix):
    write(folder / f"pairs{suffix}", ROWS)
    for spec in (f"pairs{suffix}", "."):
        source = open_source(spec, Reading(root=folder))
        samples = [source.read(n) for n in range(len(source))]
        assert [(s.key, s.captions) for s in samples] == EXPECTED
        assert [source.captions(n) for n in range(2)] == [captions for _, captions in EXPECTED]
        assert source.shard_sizes == (2,)
        assert source.place(0) == f"pairs{suffix}"
        for sample, level in zip(samples, (10, 20), strict=True):
            assert isinstance(sample.image, bytes)
            assert decode(sample.image)[0, 0, 0] == level


@pytest.mark.behaviour
def test_a_list_of_captions_is_several(folder):
    rows = [{"image": "a.png", "captions": ["one", "two"]}, {"image": "c.png", "captions": "three"}]
    write(folder / "pairs.jsonl", rows)
    source = open_source("pairs.jsonl", Reading(root=folder))
    assert [source.captions(n) for n in range(2)] == [("one", "two"), ("three",)]


@pytest.mark.behaviour
def test_columns_may_be_named_and_a_wrong_name_shows_those_there_are(folder):
    write(folder / "p.csv", [{"photo": "a.png", "alt text": "one"}])
    reading = Reading(root=folder, image_column="photo", caption_column="alt text")
    assert open_source("p.csv", reading).captions(0) == ("one",)
    with pytest.raises(
        ConfigError,
        match=r"picture paths.*columns are \['photo', 'alt text'\].*"
        r"data\.image_column",
    ):
        open_source("p.csv", Reading(root=folder))
    with pytest.raises(ConfigError, match=r"no column 'phto' — did you mean 'photo'"):
        open_source("p.csv", Reading(root=folder, image_column="phto"))
    with pytest.raises(ConfigError, match=r"data\.caption_column"):
        open_source("p.csv", Reading(root=folder, image_column="photo"))


@pytest.mark.behaviour
def test_a_missing_picture_is_a_reason_to_skip(folder):
    rows = [{"image": name, "caption": "x"} for name in ("none.png", "sub", "a.png\0", "x" * 5000)]
    write(folder / "p.jsonl", rows)
    source = open_source("p.jsonl", Reading(root=folder))
    for index in range(4):
        with pytest.raises(DataError, match=r"^missing picture$"):
            source.read(index)


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", b"", r"p\.csv has no rows"),
        ("p.csv", b"image,caption\n", r"p\.csv has no rows"),
        ("p.csv", b"image,caption\na.png,\n", r"no row of .*p\.csv has a picture and a caption"),
        ("p.jsonl", b'{"image": "a.png"', r"cannot read the table .*p\.jsonl"),
        ("p.jsonl", b"[1, 2]\n", r"cannot read the table .*p\.jsonl"),
        ("p.jsonl", b"3\n", r"cannot read the table .*p\.jsonl"),
        ("p.parquet", b"no parquet", r"cannot read the table .*p\.parquet"),
    ],
)
def test_tables_that_cannot_be_used_say_why(folder, name, content, message):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source(name, Reading(root=folder))


@pytest.mark.behaviour
def test_a_folder_holds_one_table(folder):
    with pytest.raises(DataError, match=r"must hold one table.*found none"):
        open_source(str(folder), Reading())
    write(folder / "a.csv", ROWS)
    write(folder / "b.csv", ROWS)
    with pytest.raises(DataError, match=r"found a\.csv, b\.csv"):
        open_source(str(folder), Reading())
    with pytest.raises(DataError, match="cannot read the table"):
        TableSource(folder / "none.csv")


@pytest.mark.property
def test_identity_follows_the_rows(folder):
    first = TableSource(write(folder / "a.csv", ROWS)).identity
    assert TableSource(write(folder / "b.tsv", ROWS)).identity == first
    changed = [ROWS[0] | {"caption": "changed"}, *ROWS[1:]]
    assert TableSource(write(folder / "c.csv", changed)).identity != first


@pytest.mark.behaviour
def test_scenes_are_named_by_kind_and_length():
    reading = Reading(seed=3, image_size=32)
    train = open_source("scenes:train:50", reading)
    assert train.identity == SceneSource(50, 3, 32).identity
    assert open_source("scenes:val:50", reading).identity != train.identity
    assert len(open_source("scenes", reading)) == 1_000_000
    unseen = open_source("scenes:unseen:20", reading)
    assert unseen.identity == SceneClassSource(20, 3, 32, seen=False).identity
    for wrong in ("scenes:test", "scenes:train:many", "scenes:train:-1"):
        with pytest.raises(ConfigError, match=f"'{wrong}' is no data: .*train, val, seen, unseen"):
            open_source(wrong, reading)
    with pytest.raises(ConfigError, match="length of scenes is 0"):
        open_source("scenes:train:0", reading)


@pytest.fixture
def saved(tmp_path: Path):
    datasets = pytest.importorskip("datasets", reason="needs pip install 'bifocal[datasets]'")
    pictures = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (10, 20)]
    table = {"image": pictures, "captions": [["one", " "], ["two", "three"]], "n": [1, 2]}
    dataset = datasets.Dataset.from_dict(table)
    dataset.save_to_disk(str(tmp_path / "saved"))
    datasets.DatasetDict({"train": dataset}).save_to_disk(str(tmp_path / "splits"))
    return tmp_path


@pytest.mark.behaviour
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_saved_dataset_is_a_source(saved):
    source = open_source("saved", Reading(root=saved))
    assert len(source) == 2
    assert [source.read(n).captions for n in range(2)] == [("one",), ("two", "three")]
    assert source.captions(1) == ("two", "three")
    for index, level in enumerate((10, 20)):
        image = source.read(index).image
        assert isinstance(image, bytes)
        assert decode(image)[0, 0, 0] == level
    assert open_source("splits/train", Reading(root=saved)).captions(0) == ("one",)
    assert open_source("saved", Reading(root=saved)).identity == source.identity
    with pytest.raises(ConfigError, match="holds the splits train: name one"):
        open_source("splits", Reading(root=saved))
    with pytest.raises(ConfigError, match=r"no column 'text'; its columns are .*data\."):
        open_source("saved", Reading(root=saved, caption_column="text"))
