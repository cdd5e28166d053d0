"""Cases packed behind one another in one row are learnt from as if each had a row of its own."""

from itertools import count

import numpy as np
import pytest
import torch

from reporters.profiles import Profile
from reporters.training.batches import TrainingCase, Truth
from reporters.training.build import Shape, build_model, build_tokenizer
from reporters.training.rows import Packed
from reporters.training.writer import WriterTrainer
from workflows.phantom.training.language import PROFILE

SMALL = Shape(pixels=28, vision_hidden=8, vision_layers=1, hidden=16, heads=2, kv_heads=1, head_dim=8, window=20)


def trainer(profile: Profile = PROFILE) -> WriterTrainer:
    texts = ["Slide 1: fine\nSlide 2: lesion", profile.opening, profile.prompt, profile.closing]
    tokenizer = build_tokenizer([*texts, *(f" {n}" for n in range(60))])
    return WriterTrainer(build_model(SMALL, tokenizer, 0), tokenizer, profile, classes=3, lines=3)


def case(rng: np.random.Generator, patches: int, grids: tuple[int, ...] = (1, 4)) -> TrainingCase:
    slides = [patches // 2, patches - patches // 2]
    tokens = [[rng.normal(size=(rng.choice(grids), 8)).astype(np.float16).astype(np.float32) for _ in range(n)]
              for n in slides]  # fmt: skip
    truth = Truth([rng.integers(0, 3, n) for n in slides], [0, int(rng.integers(3))])
    return TrainingCase(tokens, f"Slide 1: fine\nSlide {rng.integers(2, 60)}: lesion", truth)


def test_a_packed_row_gives_the_losses_and_gradients_of_padded_ones() -> None:
    one = trainer()
    rng = np.random.default_rng(0)
    cases = [case(rng, patches) for patches in (3, 60, 2, 41)]
    packed = one.collator.packed([one.collator.written(c) for c in cases], 700)

    def learnt(batch: object) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        one.learner.zero_grad()
        answer, auxiliary = one.learner(batch)
        (answer + auxiliary).backward()
        return answer, auxiliary, [p.grad.clone() for p in one.learner.parameters() if p.grad is not None]

    *losses, gradients = learnt(packed)
    *expected, of_padded = learnt(one.collator.padded(cases))
    torch.testing.assert_close(losses, expected)
    assert len(gradients) == len(of_padded) > 20
    for found, wanted in zip(gradients, of_padded, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("window", [None, 20, 300])
def test_blocks_that_are_skipped_see_nothing(window: int | None) -> None:
    one = trainer()
    rng = np.random.default_rng(4)
    cases = [one.collator.written(case(rng, patches)) for patches in (150, 3, 60, 2, 41, 90)]
    rows = one.collator.packed(cases, 2100).rows
    assert isinstance(rows, Packed)
    across = [i for i in range(128, 2100, 128) if rows.images[i] == rows.images[i - 1] >= 0]
    assert across, "no image lies across the border of two blocks"
    blocks = rows.blocks(window)
    seen = torch.nn.functional.pad(rows.mask(window)[0, 0], (0, 76, 0, 76)).view(17, 128, 17, 128).transpose(1, 2)
    listed = torch.zeros(17, 17, dtype=torch.bool)
    for counts, numbers, whole in (
        (blocks.kv_num_blocks, blocks.kv_indices, False),
        (blocks.full_kv_num_blocks, blocks.full_kv_indices, True),
    ):
        for row in range(17):
            some = numbers[0, 0, row, : counts[0, 0, row]].long()
            assert not listed[row, some].any()
            listed[row, some] = True
            assert not whole or seen[row, some, : 2100 - 128 * row].all()
    assert not seen[~listed].any()
    assert (blocks.full_kv_num_blocks.sum() > 2) == (window != 20)
    assert listed.float().mean() < 0.4


def test_rows_hold_every_case_once_and_little_room_stays_empty() -> None:
    one = trainer()
    rng = np.random.default_rng(1)
    numbers = count()
    drawn: list[str] = []

    def cases():  # type: ignore[no-untyped-def]
        while True:
            text = f"Slide 1: fine\nSlide {next(numbers) % 60}: lesion"
            drawn.append(text)
            made = case(rng, int(np.exp(rng.uniform(1, 5.5))))
            yield TrainingCase(made.tokens, text, made.truth)

    rows = one.collator.in_rows(cases(), 2000)
    filled, told = [], 0
    for _ in range(12):
        row = next(rows)
        assert row.ids.shape == (1, 2000)
        assert set(row.rows.starts.tolist()) >= {0}
        filled.append((row.ids != 0).float().mean())
        told += int((row.labels[0, 1:] >= 0).logical_and(row.labels[0, :-1] < 0).sum())
    assert np.mean(filled) > 0.9
    assert len(drawn) - 48 <= told <= len(drawn)


def test_a_case_longer_than_a_row_is_refused() -> None:
    one = trainer()
    with pytest.raises(ValueError, match=r"a case of [\d,]+ tokens in rows of 64"):
        next(one.collator.in_rows(iter([case(np.random.default_rng(2), 60)] * 99), 64))


def test_training_on_packed_rows_lowers_the_loss() -> None:
    one = trainer()
    rng = np.random.default_rng(3)
    known = [case(rng, 6) for _ in range(4)]
    row = one.collator.packed([one.collator.written(c) for c in known], 256)
    curve = one.fit_packed((row for _ in count()), 100, 3e-3)
    assert curve[-1] < 0.7 * curve[0]
