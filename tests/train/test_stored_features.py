"""Runs whose image tower is locked, and reads no picture because its features are stored."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tar_files
import torch
from PIL import Image

from bifocal import pretrained
from bifocal.data.sources import Reading, open_source
from bifocal.embed import Job, embed
from bifocal.errors import CheckpointError, ConfigError
from bifocal.train.prepare import open_training, prepare
from bifocal.world import World

LOCKED = ("train.lock=image", "augment.min_area=1", "train.steps=6", "optim.lr=1e-3")


@pytest.fixture
def first(configure, train):
    """Return the folder of a tiny trained model."""
    run = train(configure("train.steps=2", out="first"))
    run.model.eval()
    run.pretrained.save(Path(run.config.out) / "model")
    return Path(run.config.out)


@pytest.fixture
def stored(configure, first, tmp_path):
    """Return the folder of its features of the training pictures."""
    source = open_training(configure())
    embed(pretrained.load(first), source, tmp_path / "features", Job(what="images"))
    return tmp_path / "features"


@pytest.mark.property
def test_stored_features_train_what_the_locked_tower_does(configure, train, first, stored):
    init = (f"init={first}", *LOCKED)
    tower = train(configure(*init, out="tower"))
    features = configure(*init, f"data.image_features={stored}", out="features")
    run = train(features)
    before = pretrained.load(first).model.state_dict()
    moved = 0
    for name, tensor in run.model.state_dict().items():
        torch.testing.assert_close(tensor, tower.model.state_dict()[name], rtol=1e-4, atol=1e-5)
        moved += not torch.equal(tensor, before[name])
        assert not name.startswith("visual.") or torch.equal(tensor, before[name])
    assert moved > 10
    batch = next(iter(run.loader()))
    assert batch.images.shape == (16, run.config.model.embed_dim)
    run.world.wait()
    again = prepare(features, World(), lambda message: None)
    assert again.step == 6, "a run on features is resumed as any other"


@pytest.mark.behaviour
def test_features_of_another_model_or_data_are_refused(configure, train, first, stored):
    other = train(configure("train.steps=2", "seed=3", out="other"))
    other.model.eval()
    other.pretrained.save(Path(other.config.out) / "model")
    features = f"data.image_features={stored}"
    for options in ((f"init={other.config.out}",), (f"init={first}", "data.train=scenes:train:64")):
        with pytest.raises(CheckpointError, match="not of this model and data"):
            train(configure(*options, *LOCKED, features, out="refused"))
    with pytest.raises(ConfigError, match=r"set train\.lock=image"):
        configure(f"init={first}", features)
    with pytest.raises(CheckpointError, match="no finished features"):
        train(configure(f"init={first}", *LOCKED, "data.image_features=nowhere", out="refused"))


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("model.activation=gelu", "model.activation gelu instead of quick_gelu"),
        ("model.image_size=64", "model.vision image_size 64 instead of 32"),
        ("normalize.mean=[0.5, 0.5, 0.5]", r"normalize\.mean \(0\.5, 0\.5, 0\.5\) instead of"),
    ],
)
def test_features_of_a_tower_that_reads_otherwise_are_refused(
    configure, first, stored, setting, fault
):
    options = (f"init={first}", *LOCKED, f"data.image_features={stored}")
    open_training(configure(*options, out="alike"))
    with pytest.raises(ConfigError, match=fault):
        open_training(configure(*options, setting, out="refused"))


@pytest.fixture
def labelled(tmp_path):
    """Return a shard of labelled pictures without captions."""
    draws, files = np.random.default_rng(0), {}
    for n in range(32):
        picture = io.BytesIO()
        pixels = draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(picture, "png")
        files |= {f"{n:02}.png": picture.getvalue(), f"{n:02}.cls": b"%d" % (n % 2)}
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "classes.json").write_text('["cat", "dog"]')
    return tar_files.write(tmp_path / "shards" / "0.tar", files)


@pytest.mark.behaviour
def test_pictures_have_their_features_whatever_is_said_of_their_class(
    configure, train, first, labelled, tmp_path
):
    # As `bifocal embed` reads them: it knows nothing of sentences.
    embed(
        pretrained.load(first),
        open_source(str(labelled), Reading()),
        tmp_path / "features",
        Job(what="images"),
    )
    said = 'data.templates=["a photo of a {}", "one {}"]'
    data = (f"data.train={labelled}", said, f"data.image_features={tmp_path / 'features'}")
    run = train(configure(f"init={first}", *LOCKED, *data, out="said"))
    assert run.step == 6
    assert run.source.captions(1) == ("a photo of a dog", "one dog")
    assert run.source.read(1).image.shape == (run.config.model.embed_dim,)
