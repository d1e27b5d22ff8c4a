"""Prompts that begin alike: grouped and read once, they give what reading each whole gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bifocal.inputs.tokenizer import pad
from bifocal.model import prefixes
from bifocal.model.prefixes import groups, read_rows

START, END = 598, 599
# Few different ids, so that many rows begin alike.
row = st.lists(st.integers(0, 2), max_size=9).map(lambda ids: (START, *ids, END))


@pytest.mark.property
@given(rows=st.lists(row, min_size=1, max_size=16), by=st.integers(1, 6), tokens=st.integers(1, 40))
def test_reading_what_is_shared_once_is_reading_everything(tiny_vit, random_clip, rows, by, tokens):
    model = random_clip(tiny_vit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefixes, "SHARED_BY", by)
        patch.setattr(prefixes, "TOKENS", tokens)
        found = read_rows(model, rows)
    with torch.inference_mode():
        expected = model.read_text(pad(rows))
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.property
@given(rows=st.sets(row, min_size=1, max_size=60), by=st.integers(1, 6))
def test_groups_hold_every_row_once_and_what_they_share_is_shared(rows, by):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefixes, "SHARED_BY", by)
        made = list(groups(sorted(rows)))
    assert sorted(one for group in made for one in group.rows) == sorted(rows)
    for group in made:
        assert len({one[: group.shared] for one in group.rows}) == 1
        # Something is left of each: at least its end.
        assert all(len(one) > group.shared for one in group.rows)


@pytest.mark.behaviour
def test_templates_with_many_names_share_their_beginnings():
    rows = sorted(
        (START, *template, name, END)
        for template in ((1, 2, 3), (1, 2, 4), (7,))
        for name in range(100, 140)
    )
    made = {group.shared: len(group.rows) for group in groups(rows)}
    assert made == {4: 40, 2: 40} or sorted(len(g.rows) for g in groups(rows)) == [40, 40, 40]
    assert sum(len(r) - g.shared for g in groups(rows) for r in g.rows) == 2 * len(rows)


@pytest.mark.behaviour
def test_progress_counts_different_rows(tiny_vit, random_clip):
    told: list[int] = []
    rows = [(START, n % 5, END) for n in range(20)]
    read_rows(random_clip(tiny_vit), rows, told.append)
    assert told[-1] == 5
    assert told == sorted(told)
    assert read_rows(random_clip(tiny_vit), []).shape == (0, tiny_vit.embed_dim)


def plain_weights(clip, rows: list[list[str]]) -> torch.Tensor:
    """The oracle: every prompt read whole, classes one after the other."""
    means = torch.stack([clip.encode_text(row).mean(dim=0) for row in rows])
    return torch.nn.functional.normalize(means, dim=-1)


@pytest.mark.property
def test_a_classifier_of_many_prompts_is_the_plain_one(tiny_vit, random_pretrained, monkeypatch):
    clip = random_pretrained(tiny_vit)
    names = [f"{a}{b}" for a in "abcdefgh" for b in "qrstu"]
    templates = [f"{'x' * n} a {{}}." for n in range(1, 9)]
    rows = [[template.format(name) for template in templates] for name in names]
    assert len({text for one in rows for text in one}) > prefixes.FEW
    # Rows need not be equally long.
    ragged = [one[: 1 + n % 3] for n, one in enumerate(rows)]
    unlike = [template.replace(" a ", " the ") for template in templates]
    said = [[template.format(name) for template in unlike] for name in names]
    expected = [plain_weights(clip, some) for some in (rows, ragged, said)]
    monkeypatch.setattr(prefixes.TextTransformer, "read_text", None)
    found = clip.class_weights(rows), clip.zero_shot(names, unlike).head.weights
    torch.testing.assert_close(found[0], expected[0], atol=2e-6, rtol=0)
    torch.testing.assert_close(found[1], expected[2], atol=2e-6, rtol=0)
    monkeypatch.setattr("bifocal.pretrained.FEW", 8)
    torch.testing.assert_close(clip.class_weights(ragged), expected[1], atol=2e-6, rtol=0)


@pytest.mark.behaviour
def test_a_classifier_tells_of_different_prompts(tiny_vit, random_pretrained, monkeypatch):
    monkeypatch.setattr("bifocal.pretrained.FEW", 2)
    told: list[tuple[int, int]] = []
    rows = [["a cat", "my cat"], ["a dog", "a cat"]]
    random_pretrained(tiny_vit).class_weights(rows, lambda *both: told.append(both))
    assert told[-1] == (3, 3)
