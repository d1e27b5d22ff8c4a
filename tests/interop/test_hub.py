"""Published names and repositories, fetched over a real connection from a hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hub_server import Hub
from huggingface_hub import constants

from bifocal.errors import CheckpointError
from bifocal.interop import hub, huggingface, open_clip
from bifocal.interop.load import load
from bifocal.model import zoo
from bifocal.model.config import CLIPConfig
from bifocal.pretrained import Pretrained

pytestmark = pytest.mark.behaviour

Make = Callable[..., Pretrained]
REPOSITORY = "someone/clip-tiny"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def model(tiny_vit: CLIPConfig, random_pretrained: Make) -> Pretrained:
    return random_pretrained(tiny_vit)


@pytest.fixture
def served(server: Hub, model: Pretrained, tmp_path: Path) -> Hub:
    huggingface.write(model, tmp_path / "remote")
    server.repositories[REPOSITORY] = files_of(tmp_path / "remote")
    return server


def same(one: Pretrained, other: Pretrained) -> bool:
    mine, theirs = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def test_a_repository_is_fetched_once(served: Hub, model: Pretrained, tmp_path: Path) -> None:
    for _ in range(2):
        assert same(model, load(REPOSITORY, cache_dir=tmp_path / "cache"))
    assert same(model, load(f"hf-hub:{REPOSITORY}", cache_dir=tmp_path / "cache"))
    weights = [line for line in served.requests if "model.safetensors" in line]
    assert [line.split()[0] for line in weights] == ["HEAD", "GET"]


def test_offline_the_cache_serves(served: Hub, model: Pretrained, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(CheckpointError, match="not in the cache"):
        load(REPOSITORY, cache_dir=cache, offline=True)
    load(REPOSITORY, cache_dir=cache)
    served.requests.clear()
    assert same(model, load(REPOSITORY, cache_dir=cache, offline=True))
    assert not served.requests


@pytest.mark.parametrize("name", ["ViT-B/32", "RN50"])
def test_a_published_name_means_its_repository(
    name: str, server: Hub, tiny: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    writer = open_clip if name == "RN50" else huggingface
    model = random_pretrained(zoo_like(name, tiny))
    writer.write(model, tmp_path / "remote")
    server.repositories[hub.REPOSITORIES[name]] = files_of(tmp_path / "remote")
    assert same(model, load(name, cache_dir=tmp_path / "cache"))


def zoo_like(name: str, tiny: CLIPConfig) -> CLIPConfig:
    if type(zoo.PUBLISHED[name].vision) is not type(tiny.vision):
        pytest.skip("the other tower's turn")
    return tiny


def test_a_published_name_is_quick_gelu_or_refused(
    served: Hub, tiny_vit: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    gelu = random_pretrained(tiny_vit.model_copy(update={"activation": "gelu"}))
    huggingface.write(gelu, tmp_path / "gelu")
    served.repositories[hub.REPOSITORIES["ViT-B/32"]] = files_of(tmp_path / "gelu")
    with pytest.raises(CheckpointError, match="says its activation is gelu"):
        load("ViT-B/32", cache_dir=tmp_path / "cache")


def test_every_published_name_has_a_repository() -> None:
    assert hub.REPOSITORIES.keys() == zoo.PUBLISHED.keys()


def test_pickled_weights_serve_where_there_are_no_others(
    served: Hub, model: Pretrained, tmp_path: Path
) -> None:
    from bifocal.interop.keys import to_huggingface

    torch.save(to_huggingface(model.model.state_dict()), tmp_path / "w.bin")
    files = served.repositories[REPOSITORY]
    del files["model.safetensors"]
    files["pytorch_model.bin"] = (tmp_path / "w.bin").read_bytes()
    assert same(model, load(REPOSITORY, cache_dir=tmp_path / "cache"))


def test_an_interrupted_download_goes_on_where_it_stopped(
    served: Hub, model: Pretrained, tmp_path: Path
) -> None:
    served.cuts = [4000, 5000]
    assert same(model, load(REPOSITORY, cache_dir=tmp_path / "cache"))
    ranges = [line.split()[-1] for line in served.requests if "bytes=" in line]
    assert ranges == ["bytes=4000-", "bytes=9000-"]


def test_a_download_that_never_ends_leaves_nothing_half(
    served: Hub, model: Pretrained, tmp_path: Path
) -> None:
    served.cuts = [0] * 20
    cache = tmp_path / "cache"
    with pytest.raises(CheckpointError, match=r"cannot fetch someone/clip-tiny from http"):
        load(REPOSITORY, cache_dir=cache)
    assert not list(cache.rglob("*.safetensors"))
    served.cuts = []
    assert same(model, load(REPOSITORY, cache_dir=cache))


def test_a_wrong_hash_is_refused_and_forgotten(
    served: Hub, model: Pretrained, tmp_path: Path
) -> None:
    served.corrupt = True
    cache = tmp_path / "cache"
    with pytest.raises(CheckpointError, match=r"arrived damaged: its sha256 is"):
        load(REPOSITORY, cache_dir=cache)
    assert not list(cache.rglob("*.safetensors"))
    served.corrupt = False
    assert same(model, load(REPOSITORY, cache_dir=cache))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someone/nothing", "the hub has no such model: someone/nothing"),
        ("someone/empty", "has no weights of someone/empty"),
        ("ViT-B/23", r"did you mean 'ViT-B/32'"),
    ],
)
def test_what_the_hub_has_not_is_said(name: str, message: str, served: Hub, tmp_path: Path) -> None:
    served.repositories["someone/empty"] = {"README.md": b"nothing here"}
    with pytest.raises(CheckpointError, match=message):
        load(name, cache_dir=tmp_path / "cache")


def test_no_answer_is_said(server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"cannot fetch .* from http://127\.0\.0\.1:9"):
        load(REPOSITORY, cache_dir=tmp_path / "cache")


def test_the_endpoint_comes_from_the_environment(
    served: Hub, model: Pretrained, tmp_path: Path
) -> None:
    program = (
        "import bifocal.interop.load as l, sys;"
        "print(l.load(sys.argv[1]).encode_text(['ab']).tolist())"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": served.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, REPOSITORY],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(model.encode_text(["ab"]).tolist())
