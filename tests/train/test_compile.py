"""Compiled blocks: the same features and gradients, the same names."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from bifocal.model.clip import CLIP
from bifocal.optim.update import Update
from bifocal.train.prepare import prepare
from bifocal.world import World

# In a process of its own: what is compiled must not carry the suite's run-time shape checks.
SCRIPT = """
import torch
from bifocal.model.clip import CLIP
from bifocal.model.config import CLIPConfig, TextConfig, VisionTransformerConfig
from torch._dynamo.utils import counters

torch.set_num_threads(1)
vision = VisionTransformerConfig(image_size=32, patch_size=8, width=32, layers=2, heads=2)
text = TextConfig(context_length=24, vocab_size=100, width=32, layers=2, heads=2)
config = CLIPConfig(embed_dim=16, vision=vision, text=text)
images = torch.randn(4, 3, 32, 32)
found = []
for compiled in (False, True):
    model = CLIP(config)
    if compiled:
        model.compile_blocks()
    torch.manual_seed(0)
    for step in range(4):
        tokens = torch.randint(1, 90, (4, 24))
        tokens[range(4), torch.randint(2, 24, (4,))] = 99
        model.zero_grad()
        features = model.features(images, tokens)
        (features.image[:, 0].sum() + features.text[:, 1].sum()).backward()
        # The last block and the others, of pictures and of texts, however many tokens there are.
        assert counters["stats"]["unique_graphs"] == 4 * compiled
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    found.append((features, gradients, list(model.state_dict())))
(plain, slow, names), (fused, fast, others) = found
assert names == others and slow.keys() == fast.keys()
torch.testing.assert_close(fused.image, plain.image, rtol=1e-4, atol=1e-5)
torch.testing.assert_close(fused.text, plain.text, rtol=1e-4, atol=1e-5)
for name in slow:
    torch.testing.assert_close(fast[name], slow[name], rtol=1e-3, atol=1e-5)
print("the same")
"""


@pytest.mark.property
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_compute_the_same():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.stdout.strip() == "the same", done.stderr[-2000:]


@pytest.mark.behaviour
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("compiled", [True, False])
def test_a_compiled_run_compiles_its_optimizer_too(configure, compiled, monkeypatch):
    monkeypatch.setattr(CLIP, "compile_blocks", lambda model: None)  # see above
    settings = ["optim.statistics=bfloat16", f"train.compile={str(compiled).lower()}"]
    run = prepare(configure(*settings), World(), lambda text: None)
    parts: list[str] = []
    monkeypatch.setattr(Update, "move", lambda update, *how: parts.append(update.name))
    for parameter in run.model.parameters():
        parameter.grad = parameter.detach().clone()
    before = run.model.text_projection.detach().clone()
    run.optimizer.param_groups[0]["lr"] = 0.1
    run.optimizer.step()
    assert ("text_projection" in parts) != compiled
    assert (run.model.text_projection != before).any() == compiled
