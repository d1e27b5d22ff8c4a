"""Training steps on a CUDA device that is not there.

    python tests/train/fake_device.py

torch's FakeTensorMode computes shapes, types and devices, and no values, so that real runs make
real steps under autocast("cuda"), with losses, backward pass and optimizer, on any machine. Prints
for each case a JSON line: its name, what went wrong, and where the host waits for the device.
Noticed is a tensor of the CPU that meets one of the device (also in lists and in collective calls,
where FakeTensor does not look), and one that NCCL would not send. Not noticed are values (all
scalars are 1), what NCCL makes of it, FSDP, and layouts that cuDNN chooses.

A torch that is built without CUDA is told that there is a device by some lines of C++: autograd
asks for its stream. They must be loaded before torch, hence a process of its own.
"""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHIM = r"""
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace at {
struct FakeCUDAHooks : CUDAHooksInterface {
  explicit FakeCUDAHooks(CUDAHooksArgs) {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
};
C10_REGISTER_TYPED_CLASS(CUDAHooksRegistry, "CUDAHooks", FakeCUDAHooks)
}
namespace {
using namespace c10;
const Device device(DeviceType::CUDA, 0);
const Stream stream(Stream::DEFAULT, device);
struct Guard final : impl::NoOpDeviceGuardImpl<DeviceType::CUDA> {
  Device exchangeDevice(Device) const override { return device; }
  Device getDevice() const override { return device; }
  Stream getStream(Device) const noexcept override { return stream; }
  Stream getNewStream(Device, int) const override { return stream; }
  Stream exchangeStream(Stream) const noexcept override { return stream; }
  void record(void**, const Stream&, const DeviceIndex, const EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard)
}
"""


def pretend() -> None:
    """Give a torch without CUDA a device that does nothing."""
    assert "torch" not in sys.modules
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    torch_folder = Path(spec.origin).parent
    if "cuda: Optional[str] = None" not in (torch_folder / "version.py").read_text("utf-8"):
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "shim.cpp").write_text(SHIM)
        command = ["g++", "-std=c++20", "-O0", "-shared", "-fPIC", f"-I{torch_folder}/include"]
        command += [f"{folder}/shim.cpp", "-o", f"{folder}/shim.so", f"-L{torch_folder}/lib"]
        subprocess.run([*command, "-lc10", "-ltorch_cpu"], check=True)
        for library in ("libc10.so", "libtorch_cpu.so"):
            ctypes.CDLL(str(torch_folder / "lib" / library), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / "shim.so"))


pretend()

import json  # noqa: E402
import traceback  # noqa: E402

import torch  # noqa: E402
import torch.cuda.amp.common  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_iter  # noqa: E402

from bifocal.data.batch import Batch  # noqa: E402
from bifocal.data.sources import Reading, open_source  # noqa: E402
from bifocal.settings import merge, parse_override  # noqa: E402
from bifocal.train.objective import loss_of  # noqa: E402
from bifocal.train.recipe import resolve_run  # noqa: E402
from bifocal.train.rejected import parameter_statistics  # noqa: E402
from bifocal.train.state import new_run  # noqa: E402
from bifocal.train.step import train_step  # noqa: E402
from bifocal.train.trial import _vocabulary  # noqa: E402
from bifocal.types import Cursor  # noqa: E402
from bifocal.world import World  # noqa: E402

PAIRS, LONGEST = 16, 13
SENT = {
    *(torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
}
"""What NCCL sends from process to process."""
HALF = "optim.statistics=bfloat16 optim.text_weights=bfloat16 optim.image_weights=bfloat16"
CASES: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("loss.sharing=true", {"processes": 4}),
    ("", {"processes": 4, "model": "RN-nano"}),
    ("train.chunk_size=8 train.gradient_checkpointing=true", {"model": "RN-nano"}),
    ("train.chunk_size=8 train.patch_dropout=0.5 loss.tile=8", {}),
    ("train.precision=float32 model.projection=mlp optim.max_grad_norm=1.0", {}),
    ("train.precision=float16 optim.statistics=float16 optim.max_grad_norm=1.0", {}),
    (HALF, {}),
    ("optim.max_update_rms=1.0 optim.average_decay=0.99 loss.tile=0", {}),
    ("loss.form=sigmoid model.init_logit_bias=-10", {"stored": True}),
    ("loss.form=bag_of_words model.text.kind=bag_of_words train.chunk_size=8", {}),
    ("loss.form=caption", {}),
]


class Watch(TorchDispatchMode):
    """Notes where the host waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: dict[str, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        given = [t for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)]
        if name == "_pin_memory":  # for which FakeTensor has no rule
            return given[0]
        if name.startswith(("_foreach_", "_fused_")):
            places = {t.device for t in given}
            assert len(places) == 1, f"{name} of tensors on {places}"
        if func.namespace == "c10d":
            assert all(t.device.type == "cuda" for t in given), f"{name} on the CPU"
            assert all(t.dtype in SENT for t in given), f"{name} of what NCCL does not send"
            assert all(t.is_contiguous() for t in given), f"{name} of what has gaps"
        if any(t.device.type == "cuda" for t in given):
            self._look(name, args)
        if name == "_local_scalar_dense":
            return 1.0 if given[0].is_floating_point() else 1
        if name == "nonzero":
            return given[0].new_empty((len(given[0]), given[0].ndim), dtype=torch.long)
        result = func(*args, **kwargs)
        if name in ("_to_copy", "copy_"):
            source, target = (given[-1], given[0]) if name == "copy_" else (given[0], result)
            in_turn = kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,))
            if source.device != target.device and not in_turn:
                self._wait("copy")
        return result

    def _look(self, name: str, args: tuple[Any, ...]) -> None:
        """Note what asks for values of the device."""
        if name == "_local_scalar_dense":
            self._wait("item")
        elif name == "nonzero":
            self._wait(name)
        elif name in ("index", "index_put", "index_put_"):
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype == torch.bool for index in indices):
                self._wait("mask")
            if any(index.device.type == "cpu" and index.ndim for index in indices):
                self._wait("index of the CPU")

    def _wait(self, what: str) -> None:
        frames = [f for f in traceback.extract_stack() if "/bifocal/" in f.filename]
        place = frames[-1].filename.rsplit("/bifocal/")[-1] if frames else "elsewhere"
        self.waits[f"{what} {place}"] = self.waits.get(f"{what} {place}", 0) + 1


def step(
    overrides: str, *, model: str = "ViT-nano/8", processes: int = 1, stored: bool = False
) -> dict[str, int]:
    """Return where the host waits in the second of two steps."""
    table: dict[str, Any] = {
        "out": "unused",
        "model": {"preset": model},
        "data": {"train": "scenes:train:64", "batch_size": PAIRS},
        "optim": {"warmup_steps": 0},
        "train": {"steps": 10, "precision": "bfloat16"},
    }
    for override in overrides.split():
        table = merge(table, parse_override(override))
    config = resolve_run(table, "a fake step")
    source, text = open_source("scenes:train:64", Reading()), config.model.text
    world = World(device=torch.device("cuda", 0))
    if processes > 1:
        dist.init_process_group("fake", rank=1, world_size=processes, store=FakeStore())
        world = World(1, processes, world.device)
    lengths = torch.tensor([5 + n % 9 for n in range(PAIRS)])  # has content: the CPU reads it
    with FakeTensorMode(allow_non_fake_inputs=True):
        run = new_run(config, source, _vocabulary(text.vocab_size, text.context_length), world)
        size = config.model.vision.image_size
        images = torch.empty(PAIRS, 3, size, size, dtype=torch.uint8)
        if stored:
            run.model.lock("image")
            images = torch.empty(PAIRS, config.model.embed_dim)
        batch = Batch(
            images=images,
            tokens=torch.empty(PAIRS, LONGEST, dtype=torch.long),
            lengths=lengths,
            keys=tuple(map(str, range(PAIRS))),
            positions=torch.arange(PAIRS),
            cursor=Cursor(0, source.identity),
        )
        loss = loss_of(config)
        for _ in range(2):
            with Watch() as watch:
                assert train_step(run, batch, loss).applied
        with Watch(), torch.no_grad():
            parameter_statistics(run.model, world)
            measured = run.for_evaluation()
        assert all(p.device.type == "cuda" for p in measured.model.parameters())
    if processes > 1:
        dist.destroy_process_group()
    return watch.waits


def move(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """Stand for nn.Module.to, which would exchange the content of tensors."""
    device = next((arg for arg in args if isinstance(arg, torch.device)), None)
    layout = kwargs.get("memory_format", torch.preserve_format)
    for module in self.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is None:
                    continue
                moved = tensor.detach().to(device or tensor.device)
                if moved.ndim == 4:
                    moved = moved.contiguous(memory_format=layout)
                trained = isinstance(tensor, nn.Parameter)
                table[name] = nn.Parameter(moved, tensor.requires_grad) if trained else moved
    return self


def main() -> None:
    """Run all cases."""
    torch.set_num_threads(1)
    nn.Module.to = move  # pyright: ignore[reportAttributeAccessIssue]
    # autocast("cuda") switches itself off where there is no device.
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda *args, **kwargs: True
    for overrides, options in CASES:
        row: dict[str, Any] = {"case": f"{overrides} {options or ''}".strip(), "error": ""}
        try:
            row["waits"] = step(overrides, **options)
        except Exception:  # noqa: BLE001 - whatever it is, the next case is tried
            row["error"] = traceback.format_exc(limit=-6)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
