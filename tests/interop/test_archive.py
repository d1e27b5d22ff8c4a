"""Archives of torch: read without running anything, and refused when they are made to harm."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bifocal.errors import CheckpointError
from bifocal.interop.archive import ZipArchive, read_torchscript
from bifocal.interop.weights import Storage, read_sharded, read_weights

pytestmark = pytest.mark.behaviour

Save = Callable[[dict[str, Tensor], Path], None]


class Exploit:
    """Creates a file as soon as it is unpickled by anything that trusts it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    return tmp_path / "was-here"


def write_archive(path: Path, pickled: bytes, extra: dict[str, bytes] | None = None) -> None:
    entries = {"data.pkl": pickled, "constants.pkl": b"\x80\x02).", "version": b"3\n"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in {**entries, **(extra or {})}.items():
            archive.writestr(f"archive/{name}", raw)


def test_an_archive_holds_the_same_tensors(save_torchscript: Save, tmp_path: Path) -> None:
    state = {
        "a.weight": torch.randn(3, 5).T,
        "a.b.sixteen": torch.randn(7).half(),
        "count": torch.tensor(12),
        "a.0.bf": torch.randn(2, 2).bfloat16(),
        "empty": torch.empty(0, 4),
    }
    save_torchscript(state, tmp_path / "m.pt")
    weights = read_weights(tmp_path / "m.pt")
    assert weights.storage is Storage.TORCHSCRIPT
    assert weights.state.keys() == state.keys()
    for name, tensor in state.items():
        assert weights.state[name].dtype == tensor.dtype
        assert torch.equal(weights.state[name], tensor)


def test_views_of_one_storage_are_told_apart(save_torchscript: Save, tmp_path: Path) -> None:
    base = torch.arange(12.0)
    save_torchscript({"a": base[2:6], "b": base.view(3, 4)[:, 1]}, tmp_path / "m.pt")
    state = read_weights(tmp_path / "m.pt").state
    assert state["a"].tolist() == [2, 3, 4, 5]
    assert state["b"].tolist() == [1, 5, 9]


def test_reading_does_not_write_to_the_file(save_torchscript: Save, tmp_path: Path) -> None:
    save_torchscript({"a": torch.zeros(4)}, tmp_path / "m.pt")
    before = (tmp_path / "m.pt").read_bytes()
    read_weights(tmp_path / "m.pt").state["a"].add_(1)
    assert (tmp_path / "m.pt").read_bytes() == before


def test_the_exploit_works_on_those_who_trust_it(victim: Path) -> None:
    pickle.loads(pickle.dumps(Exploit(victim), protocol=2))
    assert victim.exists()


@pytest.mark.parametrize("kind", ["torchscript", "torch.save", "legacy", "bare pickle"])
def test_a_malicious_pickle_is_refused_unrun(kind: str, victim: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    match kind:
        case "torchscript":
            write_archive(path, pickle.dumps({"w": Exploit(victim)}, protocol=2))
        case "torch.save":
            torch.save({"w": Exploit(victim)}, path)
        case "legacy":
            torch.save({"w": Exploit(victim)}, path, _use_new_zipfile_serialization=False)
        case _:
            path.write_bytes(pickle.dumps(Exploit(victim), protocol=4))
    with pytest.raises(CheckpointError, match=r"nothing of it was run"):
        read_weights(path)
    assert not victim.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval",
        "builtins getattr",
        "torch load",
        "torch._utils __builtins__",
        "torch.serialization load",
        "bifocal.interop.archive mmap",
        "torch FloatStorage.__class__",
    ],
)
def test_only_tensors_and_containers_may_be_named(name: str, tmp_path: Path) -> None:
    module, attribute = name.split()
    write_archive(tmp_path / "e.pt", f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(CheckpointError, match="which no weights need"):
        read_weights(tmp_path / "e.pt")


def test_classes_of_the_archive_are_inert(tmp_path: Path) -> None:
    write_archive(tmp_path / "m.pt", b"\x80\x02c__torch__.os\nsystem\n)\x81}b.")
    assert read_torchscript(ZipArchive(tmp_path / "m.pt")) == {}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("../../escaped", "points outside"),
        ("/tmp/escaped", "points outside"),
        ("archive\\..\\escaped", "points outside"),
    ],
)
def test_a_path_out_of_the_archive_is_refused(entry: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "traverse.pt"
    write_archive(path, b"\x80\x02}.")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(entry), b"x")
    if "\\" in entry:
        path.write_bytes(path.read_bytes().replace(b"archive/../", b"archive\\..\\"))
    with pytest.raises(CheckpointError, match=message):
        read_weights(path)
    assert not (tmp_path.parent / "escaped").exists()


def test_a_zip_bomb_is_refused_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", b"\0" * (1 << 26))
    assert path.stat().st_size < 1 << 17
    with pytest.raises(CheckpointError, match="zip bomb"):
        read_weights(path)


def test_entries_that_overlap_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "overlap.pt"
    write_archive(path, b"\x80\x02}.", {f"data/{n}": b"\0" * 4096 for n in range(8)})
    raw = path.read_bytes()
    start = raw.index(b"PK\x01\x02")
    size = struct.pack("<I", 4096)
    path.write_bytes(raw[:start] + raw[start:].replace(size * 2, struct.pack("<I", 1 << 20) * 2))
    with pytest.raises(CheckpointError, match=r"claim \d+ bytes of a file of"):
        read_weights(path)


def test_a_memory_bomb_of_the_memo_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "m.pt", b"\x80\x02}r\xff\xff\xff\x7f.")
    with pytest.raises(CheckpointError, match="memory bomb"):
        read_weights(tmp_path / "m.pt")


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.97, 0.999])
@pytest.mark.parametrize("kind", ["torchscript", "pickle", "legacy", "safetensors"])
def test_a_truncated_file_is_refused(
    kind: str, kept: float, save_torchscript: Save, tmp_path: Path
) -> None:
    state, path = {"a": torch.randn(4096), "b": torch.randn(64)}, tmp_path / "whole"
    match kind:
        case "torchscript":
            save_torchscript(state, path)
        case "safetensors":
            from safetensors.torch import save_file

            save_file(state, path)
        case _:
            torch.save(state, path, _use_new_zipfile_serialization=kind == "pickle")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(CheckpointError, match=r"damaged|truncated|no file of weights"):
        read_weights(path)


def test_storages_that_end_early_are_refused(save_torchscript: Save, tmp_path: Path) -> None:
    pickled = io.BytesIO()
    pickled.write(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage")
    pickled.write(b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x64tQK\0(K\x64t(K\x01t")
    pickled.write(b"\x89)tR.")
    write_archive(tmp_path / "m.pt", pickled.getvalue(), {"data/0": b"\0" * 8})
    with pytest.raises(CheckpointError, match=r"holds 8 bytes, 100 of torch\.float32"):
        read_weights(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no file of weights"),
        (b"<!DOCTYPE html><html>", "no file of weights"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{", "no file of weights"),
        (b"\x10\0\0\0\0\0\0\0{not json       ", "damaged safetensors"),
    ],
)
def test_what_is_no_weights_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path / "x.pt")


def test_weights_inside_a_training_checkpoint_are_found(tmp_path: Path) -> None:
    checkpoint = {"epoch": 3, "name": "run", "state_dict": {"w": torch.ones(2)}, "optimizer": {}}
    torch.save(checkpoint, tmp_path / "epoch_3.pt")
    assert read_weights(tmp_path / "epoch_3.pt").state["w"].tolist() == [1, 1]


def test_something_else_than_tensors_is_named(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "lr": 0.1}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="'lr' is no tensor"):
        read_weights(tmp_path / "x.pt")


def test_an_index_cannot_leave_its_folder(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../other.safetensors"}}')
    with pytest.raises(CheckpointError, match="not in its own folder"):
        read_sharded(index)
