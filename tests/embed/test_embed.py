"""What `embed` writes is what the towers say, and what `Embedded` reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bifocal.data.loader import read_image
from bifocal.data.perceptual import perceptual_hash
from bifocal.embed import Embedded, Job, embed, nearest, stored_pictures
from bifocal.errors import CheckpointError, ConfigError, DataError
from bifocal.evaluate.features import Pictures, encode_pictures
from bifocal.evaluate.frozen import frozen_features

KEPT = [n for n in range(50) if n not in (5, 17, 18)]
BOTH = Job(what="both", batch_size=4, hashes=True)


def plain(clip, source) -> torch.Tensor:
    """The oracle: one picture after the other."""
    return torch.cat(
        [clip.encode_image([read_image(source.read(n)).permute(1, 2, 0).numpy()]) for n in KEPT]
    )


@pytest.mark.property
def test_features_are_those_of_each_picture_and_caption_alone(clip, pictures, tmp_path):
    source = pictures()
    found = embed(clip, source, tmp_path / "out", BOTH)
    torch.testing.assert_close(torch.tensor(found.image_features), plain(clip, source))
    samples = [source.read(n) for n in KEPT]
    texts = [text for sample in samples for text in sample.captions]
    alone = torch.cat([clip.encode_text([text]) for text in texts])
    torch.testing.assert_close(torch.tensor(found.text_features), alone)
    assert found.captions(range(len(texts))) == texts
    assert found.owners.tolist() == [row for row, one in enumerate(samples) for _ in one.captions]
    assert found.keys(range(len(found))) == [sample.key for sample in samples]
    assert found.labels.tolist() == [sample.label for sample in samples]
    assert found.indices.tolist() == KEPT
    assert found.hashes.tolist() == [perceptual_hash(read_image(sample)) for sample in samples]
    assert found.skipped == {"empty file": 2, "missing picture": 1}
    assert found.class_names == source.class_names


@pytest.mark.property
def test_numpy_reads_the_matrices_without_bifocal(clip, pictures, tmp_path):
    found = embed(clip, pictures(), tmp_path / "out", Job(dtype="float16", batch_size=3))
    matrix = np.load(tmp_path / "out" / "images.npy", mmap_mode="r")
    assert isinstance(matrix, np.memmap)
    assert (matrix.dtype, matrix.shape) == (np.float16, (47, 16))
    whole = embed(clip, pictures(), tmp_path / "full", Job(batch_size=3)).image_features
    np.testing.assert_array_equal(found.image_features, whole.astype(np.float16))


@pytest.mark.property
def test_penultimate_features_are_those_that_a_probe_reads(
    tiny, random_pretrained, pictures, tmp_path
):
    clip, source = random_pretrained(tiny), pictures(12)
    found = embed(clip, source, tmp_path / "out", Job(kind="penultimate", batch_size=4))
    read = frozen_features(clip, source).features
    assert read.shape == (
        11,
        tiny.vision.width if "proj" in dict(clip.model.visual.named_parameters()) else 16,
    )
    torch.testing.assert_close(torch.tensor(found.image_features), read)


@pytest.mark.property
def test_texts_alone_need_no_picture(clip, pictures, tmp_path, monkeypatch):
    both = embed(clip, pictures(4), tmp_path / "both", Job(what="both", batch_size=4))
    monkeypatch.setattr(pictures, "read", lambda self, index: pytest.fail("a picture was read"))
    found = embed(clip, pictures(4), tmp_path / "texts", Job(what="texts", batch_size=4))
    np.testing.assert_array_equal(found.text_features, both.text_features)
    assert found.captions(range(6)) == both.captions(range(6))
    assert found.keys([3]) == ["3"]
    with pytest.raises(ConfigError, match="embed with what=images"):
        _ = found.image_features


@pytest.mark.property
@pytest.mark.parametrize("k", [1, 3, 200])
def test_tiled_neighbours_are_those_of_the_whole_matrix(k, monkeypatch):
    monkeypatch.setattr("bifocal.embed.neighbours.ROWS", 7)
    monkeypatch.setattr("bifocal.embed.neighbours.QUERIES", 5)
    queries, items = torch.randn(13, 6), torch.randn(50, 6)
    scores, rows = nearest(queries, items.numpy(), k)
    whole = (queries @ items.T).topk(min(k, 50))
    torch.testing.assert_close(scores, whole.values)
    assert torch.equal(rows, whole.indices)


@pytest.mark.behaviour
def test_neighbours_need_features_of_one_width(clip, pictures, tmp_path):
    found = embed(clip, pictures(4), tmp_path / "out")
    assert found.nearest(torch.tensor(found.image_features), 1)[1][:, 0].tolist() == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="queries of 5 numbers among features of 16"):
        found.nearest(torch.zeros(1, 5))
    with pytest.raises(ConfigError, match="the 0 nearest: ask for 1 or more"):
        nearest(torch.zeros(1, 16), found.image_features, 0)


@pytest.mark.behaviour
def test_features_of_another_model_or_of_other_data_are_refused(
    clip, pictures, tmp_path, tiny_vit, random_pretrained
):
    found = embed(clip, pictures(20), tmp_path / "out")
    assert found.check(clip, pictures(20)) == 17
    assert found.check(clip, pictures(20), limit=6) == 5
    with pytest.raises(CheckpointError, match=r"not of this model and data: model weights"):
        found.check(random_pretrained(tiny_vit, 1), pictures(20))
    with pytest.raises(
        CheckpointError, match="data identity pictures 20 0 instead of pictures 20 1"
    ):
        found.check(clip, pictures(20, seed=1))
    part = embed(clip, pictures(20), tmp_path / "part", Job(limit=8))
    assert part.check(clip, pictures(20), limit=8) == 7
    with pytest.raises(CheckpointError, match="8 samples instead of 20"):
        part.check(clip, pictures(20))


@pytest.mark.behaviour
def test_a_folder_keeps_to_its_job(clip, pictures, tmp_path, tiny_vit, random_pretrained):
    out = tmp_path / "out"
    embed(clip, pictures(20), out)
    others = [
        (clip, pictures(20), Job(dtype="float16"), "dtype float32 instead of float16"),
        (clip, pictures(20), Job(batch_size=5), "batch_size 128 instead of 5"),
        (clip, pictures(20), Job(limit=3), "data samples 20 instead of 3"),
        (clip, pictures(21), Job(), "data identity"),
        (random_pretrained(tiny_vit, 1), pictures(20), Job(), "model weights"),
    ]
    for model, source, job, message in others:
        with pytest.raises(CheckpointError, match=message):
            embed(model, source, out, job)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"not empty \(thesis.txt\)"):
        embed(clip, pictures(20), tmp_path / "mine")


@pytest.mark.behaviour
def test_hopeless_data_and_settings_are_one_clear_error(clip, pictures, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="with what=texts leave both out"):
        embed(clip, pictures(4), tmp_path / "a", Job(what="texts", hashes=True))
    with pytest.raises(DataError, match="no sample can be used: the samples have no captions"):
        embed(clip, pictures(1), tmp_path / "b", Job(what="texts"))
    monkeypatch.setattr("bifocal.embed.run.FEW", 2)
    with pytest.raises(DataError, match=r"3 of 24 samples are bad(?s:.*)1x missing picture"):
        embed(clip, pictures(), tmp_path / "c", Job(batch_size=8))
    with pytest.raises(CheckpointError, match="no finished features"):
        Embedded.open(tmp_path / "c")
    assert len(embed(clip, pictures(), tmp_path / "c", Job(batch_size=8, max_bad=0.5))) == 47


@pytest.mark.behaviour
def test_a_damaged_file_is_named(clip, pictures, tmp_path):
    embed(clip, pictures(4), tmp_path / "out")
    path = tmp_path / "out" / "images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"images\.npy"):
        Embedded.open(tmp_path / "out")
    path.unlink()
    with pytest.raises(CheckpointError, match=r"images\.npy is missing"):
        Embedded.open(tmp_path / "out")
    (tmp_path / "out" / "meta.json").write_text("[]")
    with pytest.raises(CheckpointError, match="does not belong to embedded features"):
        Embedded.open(tmp_path / "out")


@pytest.mark.property
@pytest.mark.parametrize("limit", [None, 20])
def test_stored_pictures_are_those_that_an_evaluation_encodes(clip, pictures, tmp_path, limit):
    source = pictures()
    seen = encode_pictures(clip, source, Pictures(limit))
    for what in ("images", "both"):
        found = embed(clip, source, tmp_path / what, Job(what=what))
        stored = encode_pictures(clip, source, Pictures(limit, stored=found))
        torch.testing.assert_close(stored.features, seen.features)
        assert torch.equal(stored.indices, seen.indices)
        assert torch.equal(stored.labels, seen.labels)
        assert stored.captions == seen.captions
        assert stored.skipped == seen.skipped == 3
        texts = [text for some in seen.captions for text in some]
        if stored.text_features is not None:
            torch.testing.assert_close(stored.text_features, clip.encode_text(texts))
        assert (stored.text_features is None) == (what == "images")
    with pytest.raises(CheckpointError, match="kind projected instead of penultimate"):
        stored_pictures(found, clip, source, kind="penultimate")
