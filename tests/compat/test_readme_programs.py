"""Programs as the peers' READMEs have them, with the import line changed and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from bifocal.pretrained import Pretrained

pytestmark = pytest.mark.behaviour

CLIP_LABELS = """
import torch
import clip
from PIL import Image

device = "cuda" if torch.cuda.is_available() else "cpu"
model, preprocess = clip.load("ViT-B/32", device=device)

image = preprocess(Image.open("RGB.png")).unsqueeze(0).to(device)
text = clip.tokenize(["a diagram", "a dog", "a cat"]).to(device)

with torch.no_grad():
    image_features = model.encode_image(image)
    text_features = model.encode_text(text)

    logits_per_image, logits_per_text = model(image, text)
    probs = logits_per_image.softmax(dim=-1).cpu().numpy()
"""

CLIP_ZERO_SHOT = """
import clip
import torch
from PIL import Image

device = "cpu"
model, preprocess = clip.load('ViT-B/32', device)
classes = ["apple", "bicycle", "cloud", "dog", "elephant", "forest"]
image_input = preprocess(Image.open("RGBA.png")).unsqueeze(0).to(device)
text_inputs = torch.cat([clip.tokenize(f"a photo of a {c}") for c in classes]).to(device)

with torch.no_grad():
    image_features = model.encode_image(image_input)
    text_features = model.encode_text(text_inputs)

image_features /= image_features.norm(dim=-1, keepdim=True)
text_features /= text_features.norm(dim=-1, keepdim=True)
similarity = (100.0 * image_features @ text_features.T).softmax(dim=-1)
values, indices = similarity[0].topk(5)
"""

CLIP_PROBE = """
import clip
import torch
import numpy as np
from pathlib import Path
from PIL import Image
from torch.utils.data import DataLoader
from sklearn.linear_model import LogisticRegression

model, preprocess = clip.load('RN50', "cpu", jit=False)
data = [(preprocess(Image.open(p)), n) for n, p in enumerate(sorted(Path(".").glob("*.png")))]

def get_features(dataset):
    all_features = []
    all_labels = []
    with torch.no_grad():
        for images, labels in DataLoader(dataset, batch_size=2):
            features = model.encode_image(images.to("cpu"))
            all_features.append(features)
            all_labels.append(labels)
    return torch.cat(all_features).cpu().numpy(), torch.cat(all_labels).cpu().numpy()

train_features, train_labels = get_features(data)
classifier = LogisticRegression(random_state=0, C=100, max_iter=1000)
classifier.fit(train_features, train_labels)
accuracy = np.mean((train_labels == classifier.predict(train_features)).astype(float)) * 100.
"""

OPEN_CLIP_LABELS = """
import torch
from PIL import Image
import open_clip

model, _, preprocess = open_clip.create_model_and_transforms(
    'ViT-B-32', pretrained='laion2b_s34b_b79k')
model.eval()
tokenizer = open_clip.get_tokenizer('ViT-B-32')

image = preprocess(Image.open("RGB.png")).unsqueeze(0)
text = tokenizer(["a diagram", "a dog", "a cat"])

with torch.no_grad(), torch.autocast("cpu", enabled=False):
    image_features = model.encode_image(image)
    text_features = model.encode_text(text)
    image_features /= image_features.norm(dim=-1, keepdim=True)
    text_features /= text_features.norm(dim=-1, keepdim=True)

    text_probs = (100.0 * image_features @ text_features.T).softmax(dim=-1)
"""

OPEN_CLIP_FROM_HUB = """
import torch
import open_clip

model, preprocess = open_clip.create_model_from_pretrained(
    'hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K')
tokenizer = open_clip.get_tokenizer('hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K')
model.eval()
templates = (lambda c: f"a photo of a {c}.", lambda c: f"art of the {c}.")
classifier = open_clip.build_zero_shot_classifier(
    model, tokenizer, classnames=["dog", "cat", "tree"], templates=templates,
    num_classes_per_batch=2, device="cpu", use_tqdm=False)
image_features, text_features, logit_scale = model(torch.rand(2, 3, 16, 16), tokenizer(["dog"]))
"""


def run(program: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Run a program with its import of a peer changed, in a folder with pictures."""
    changed = program.replace(f"import {name}\n", f"import bifocal.compat.{name} as {name}\n")
    assert changed != program
    monkeypatch.chdir(folder)
    seen: dict = {}
    exec(compile(changed, f"<{name}>", "exec"), seen)
    return seen


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_clip_labels_a_picture(
    served: dict[str, Pretrained], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = run(CLIP_LABELS, "clip", pictures, monkeypatch)
    mine = served["ViT-B/32"]
    texts = mine.encode_text(["a diagram", "a dog", "a cat"])
    features = seen["text_features"]
    torch.testing.assert_close(features / features.norm(dim=1, keepdim=True), texts)
    assert abs(float(features.norm(dim=1)[0]) - 1) > 1e-3
    assert seen["probs"].shape == (1, 3)
    assert seen["probs"].sum() == pytest.approx(1)
    cosines = torch.nn.functional.normalize(seen["image_features"], dim=-1) @ texts.T
    expected = (cosines * mine.model.logit_scale.exp().detach()).softmax(-1)
    assert seen["probs"][0].tolist() == pytest.approx(expected[0].tolist(), abs=1e-6)


def test_clip_predicts_zero_shot(
    served: dict[str, Pretrained], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = run(CLIP_ZERO_SHOT, "clip", pictures, monkeypatch)
    assert seen["values"].tolist() == sorted(seen["values"].tolist(), reverse=True)


def test_clip_features_feed_a_linear_probe(
    served: dict[str, Pretrained], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    seen = run(CLIP_PROBE, "clip", pictures, monkeypatch)
    with torch.no_grad():
        expected = served["RN50"].model.visual(torch.stack([image for image, _ in seen["data"]]))
    torch.testing.assert_close(torch.from_numpy(seen["train_features"]), expected)
    assert seen["classifier"].classes_.tolist() == [0, 1, 2, 3]


def test_open_clip_labels_a_picture(
    served: dict[str, Pretrained], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = run(OPEN_CLIP_LABELS, "open_clip", pictures, monkeypatch)
    expected = served["laion"].encode_text(["a diagram", "a dog", "a cat"])
    torch.testing.assert_close(seen["text_features"], expected)
    assert seen["text_probs"].sum().item() == pytest.approx(1)


def test_open_clip_builds_a_classifier_from_the_hub(
    served: dict[str, Pretrained], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = run(OPEN_CLIP_FROM_HUB, "open_clip", pictures, monkeypatch)
    mine = served["laion"]
    columns = []
    for name in ("dog", "cat", "tree"):
        mean = mine.encode_text([f"a photo of a {name}.", f"art of the {name}."]).mean(dim=0)
        columns.append(mean / mean.norm())
    torch.testing.assert_close(seen["classifier"], torch.stack(columns, dim=1))
    torch.testing.assert_close(seen["image_features"].norm(dim=1), torch.ones(2))
    torch.testing.assert_close(seen["logit_scale"], mine.model.logit_scale.exp())
