"""Masks: how many, which, and never where they mustn't be."""

from __future__ import annotations

import numpy as np

from mechshift_lib.diffusion.schedule import apply_masks, draw_masks


def test_masks_are_not_empty_and_stay_on_maskable_tokens() -> None:
    maskable = np.zeros((200, 9), dtype=bool)
    maskable[:, 4:8] = True
    masked, ratio = draw_masks(maskable, np.random.default_rng(0))
    assert not masked[:, :4].any()
    assert not masked[:, 8].any()
    assert (masked.sum(1) >= 1).all()
    assert np.allclose(ratio, masked.sum(1) / 4)


def test_number_of_masks_is_uniform_and_stratified() -> None:
    maskable = np.ones((400, 5), dtype=bool)
    masked, _ = draw_masks(maskable, np.random.default_rng(1))
    counts = np.bincount(masked.sum(1), minlength=6)
    # An even grid of 400 draws puts 80 into each fifth, give or take the ends.
    assert counts[0] == 0
    assert np.abs(counts[1:] - 80).max() <= 1


def test_each_position_is_masked_equally_often() -> None:
    maskable = np.ones((3000, 4), dtype=bool)
    masked, _ = draw_masks(maskable, np.random.default_rng(2))
    # Expected share: mean of k / 4 over k = 1 ... 4.
    assert np.abs(masked.mean(0) - 0.625).max() < 0.03


def test_a_row_without_maskable_tokens_gets_none() -> None:
    maskable = np.array([[False, False], [True, True]])
    masked, ratio = draw_masks(maskable, np.random.default_rng(3))
    assert not masked[0].any()
    assert ratio[0] == 0


def test_masking_is_repeatable_and_applied_where_said() -> None:
    maskable = np.ones((4, 6), dtype=bool)
    one, _ = draw_masks(maskable, np.random.default_rng([7, 3]))
    two, _ = draw_masks(maskable, np.random.default_rng([7, 3]))
    assert np.array_equal(one, two)
    noised = apply_masks(np.arange(24).reshape(4, 6), one, 99)
    assert (noised[one] == 99).all()
    assert np.array_equal(noised[~one], np.arange(24).reshape(4, 6)[~one])
