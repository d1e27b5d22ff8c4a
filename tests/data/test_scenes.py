"""The built-in scenes as sources: reproducible, well split, and legible."""

from __future__ import annotations

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest

from bifocal.data.scenes import (
    TEMPLATES,
    SceneClassSource,
    SceneSource,
    binding_pairs,
    class_names,
    held_out_pairs,
    unseen_classes,
)
from bifocal.data.scenes.shapes import OUTLINES
from bifocal.data.scenes.vocabulary import BACKGROUND_TONES, COLOURS
from bifocal.errors import ConfigError
from bifocal.inputs.prompts import fill

TRAIN = SceneSource(10_000, seed=5)


@pytest.mark.property
def test_reads_are_the_same_in_any_order_and_thread():
    source = SceneSource(200, seed=3)
    first = [source.read(i) for i in range(200)]
    order = np.random.default_rng(0).permutation(200).tolist()
    with ThreadPoolExecutor(8) as pool:
        again = dict(zip(order, pool.map(SceneSource(200, 3).read, order), strict=True))
    for i, sample in enumerate(first):
        assert np.array_equal(sample.image, again[i].image)
        assert (sample.key, sample.captions) == (again[i].key, again[i].captions)
        assert sample.captions == source.described(i)[1]


@pytest.mark.golden
def test_content_is_what_this_format_version_promises():
    # Origin: this renderer at FORMAT 1, NumPy 2.4 on x86-64. Where a change of content is meant,
    # raise FORMAT in source.py and put the new hash here.
    digest = hashlib.sha256()
    for source in (SceneSource(64, 0), SceneClassSource(64, 0, 96, seen=False)):
        for i in range(64):
            sample = source.read(i)
            assert isinstance(sample.image, np.ndarray)
            digest.update(sample.image.tobytes() + repr((sample.captions, sample.label)).encode())
    assert digest.hexdigest()[:16] == "3e4d82929f1d6d9f"


@pytest.mark.property
def test_held_out_pairs_are_spread_evenly():
    held = held_out_pairs()
    assert len(held) == 25
    for place in (0, 1):
        assert set(Counter(pair[place] for pair in held).values()) == {2, 3}


@pytest.mark.property
def test_things_stay_apart_and_inside():
    for i in range(600):
        scene, _ = TRAIN.described(i)
        things = [(x, y, g.radius) for g in scene.groups for x, y in g.centres]
        assert all(r <= v <= 1 - r for x, y, r in things for v in (x, y))
        for (x1, y1, r1), (x2, y2, r2) in combinations(things, 2):
            assert (x1 - x2) ** 2 + (y1 - y2) ** 2 > (r1 + r2) ** 2


@pytest.mark.behaviour
@pytest.mark.parametrize("size", [32, 64, 96])
def test_a_picture_shows_its_colour_where_the_scene_says(size):
    source = SceneClassSource(300, seed=2, image_size=size, seen=True)
    tones = {name: np.array(tones.main) for name, tones in COLOURS.items()}
    checked = 0
    for i in range(300):
        (group,) = source.scene(i).groups
        if group.texture != "solid" or group.shape in ("ring", "crescent"):
            continue
        picture = source.read(i).image
        assert isinstance(picture, np.ndarray)
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8
        counts = {name: int((picture == tone).all(-1).sum()) for name, tone in tones.items()}
        assert max(counts, key=lambda name: counts[name]) == group.colour
        assert sum(count > 0 for count in counts.values()) == 1
        rows, columns = np.nonzero((picture == tones[group.colour]).all(-1))
        ((x, y),) = group.centres
        assert abs(columns.mean() / size - x) < 0.08
        assert abs(rows.mean() / size - y) < 0.08
        checked += 1
    assert checked > 50


@pytest.mark.behaviour
def test_outlines_are_distinct_and_fit_their_disc():
    line = (np.arange(24, dtype=np.float32) + 0.5) / 12 - 1
    x, y = (np.ascontiguousarray(a) for a in np.meshgrid(line, -line))
    masks = {name: outline(x, y) < 0 for name, outline in OUTLINES.items()}
    for (a, one), (b, other) in combinations(masks.items(), 2):
        assert (one & other).sum() / (one | other).sum() < 0.85, (a, b)
    for name, mask in masks.items():
        assert mask.mean() > 0.2, name
        assert not mask[x * x + y * y > 1.32].any(), name


@pytest.mark.property
def test_no_background_has_the_chroma_of_an_object():
    for tone in BACKGROUND_TONES:
        assert max(tone) - min(tone) <= 20


@pytest.mark.property
def test_pictures_differ():
    pictures = [TRAIN.read(i).image for i in range(200)]
    pictures += [SceneSource(50, 5, split="val").read(i).image for i in range(50)]
    pictures += [SceneSource(50, 6).read(i).image for i in range(50)]
    pictures += [SceneClassSource(50, 5, seen=True).read(i).image for i in range(50)]
    pictures += [SceneClassSource(50, 5, seen=False).read(i).image for i in range(50)]
    assert len({np.asarray(p).tobytes() for p in pictures}) == len(pictures)
    assert np.std(np.stack([np.asarray(p) for p in pictures]), axis=0).min() > 20


@pytest.mark.property
@pytest.mark.parametrize("textured", [False, True])
@pytest.mark.parametrize("seen", [False, True])
def test_classes_are_split_as_the_table_says(seen, textured):
    source = SceneClassSource(1_000, seed=1, seen=seen, textured=textured)
    unseen = set(source.unseen_classes)
    assert source.class_names == class_names(textured)
    assert len(unseen) * 4 == len(source.class_names) == (400 if textured else 100)
    labels = [source.label(i) for i in range(len(source))]
    assert source.read(7).label == labels[7]
    assert source.read(7).captions == ()
    expected = set(range(len(source.class_names))) - unseen if seen else unseen
    assert set(labels) <= expected
    assert len(set(labels)) > 0.9 * len(expected)
    for i in range(300):
        (group,) = source.scene(i).groups
        words = source.class_names[labels[i]].split()
        assert words[-2:] == [group.colour, group.shape]
        assert not textured or words[0] == group.texture
        assert ((group.colour, group.shape) in held_out_pairs()) != seen


@pytest.mark.behaviour
def test_prompts_are_in_the_captions_own_words():
    names = class_names()
    assert names[0] == "red circle"
    assert max(unseen_classes()) < len(names) == 100
    prompts = {fill(template, "orange circle") for template in TEMPLATES}
    assert {"an orange circle", "a picture of an orange circle"} <= prompts
    spoken = {caption for i in range(1_000) for caption in TRAIN.described(i)[1]}
    for template in TEMPLATES:
        assert any(fill(template, name) in spoken for name in names), template


@pytest.mark.property
def test_binding_pairs_are_reproducible():
    long, short = list(binding_pairs(20, 1)), list(binding_pairs(10, 1, image_size=64))
    for a, b in zip(long, short, strict=False):
        assert (a.caption, a.wrong_caption, a.kind) == (b.caption, b.wrong_caption, b.kind)
        assert np.array_equal(a.image, b.image)
    assert [p.caption for p in binding_pairs(10, 2)] != [p.caption for p in short]


@pytest.mark.property
def test_identity_changes_with_every_parameter():
    sources = [
        SceneSource(10, 0),
        SceneSource(11, 0),
        SceneSource(10, 1),
        SceneSource(10, 0, 32),
        SceneSource(10, 0, split="val"),
        SceneClassSource(10, 0, seen=True),
        SceneClassSource(11, 0, seen=True),
        SceneClassSource(10, 1, seen=True),
        SceneClassSource(10, 0, 32, seen=True),
        SceneClassSource(10, 0, seen=False),
        SceneClassSource(10, 0, seen=True, textured=True),
    ]
    assert len({source.identity for source in sources}) == len(sources)
    assert SceneSource(10, 0).identity == sources[0].identity


@pytest.mark.property
@pytest.mark.parametrize("length", [1, 1024, 1025, 5000])
def test_shards_add_up(length):
    source = SceneSource(length, 0)
    assert sum(source.shard_sizes) == len(source) == length
    assert min(source.shard_sizes) > 0


@pytest.mark.behaviour
def test_bad_arguments_are_refused_with_a_reason():
    with pytest.raises(ConfigError, match="length of scenes is 0"):
        SceneSource(0, 0)
    with pytest.raises(ConfigError, match="seed of scenes is -1"):
        SceneClassSource(5, -1, seen=True)
    with pytest.raises(ConfigError, match="image_size of scenes is 8"):
        binding_pairs(5, 0, image_size=8)
    with pytest.raises(ConfigError, match="'train' or 'val'"):
        SceneSource(5, 0, split="test")
    for index in (-1, 5):
        with pytest.raises(IndexError):
            SceneSource(5, 0).read(index)
