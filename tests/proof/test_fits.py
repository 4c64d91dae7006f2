"""Which size and placement for how much memory: the weights of Z-Image-Turbo on GPUs that people have."""

from __future__ import annotations

import pytest

from zitcache.proof.fits import Placement, fits_within, gpu_fits, sizes_to_try

Z_IMAGE = {"transformer": 6_155_000_000, "text_encoder": 4_022_000_000, "vae": 83_800_000}
GB = 1_000_000_000


@pytest.mark.parametrize(
    ("free", "dtype", "size", "placement"),
    [
        (140 * GB, "bf16", 1024, Placement.GPU),
        (24.2 * GB, "bf16", 1024, Placement.GPU),
        (23 * GB, "bf16", 768, Placement.GPU),
        (22 * GB, "bf16", 512, Placement.GPU),
        (16 * GB, "bf16", 1024, Placement.MODEL_OFFLOAD),
        (14 * GB, "bf16", 512, Placement.MODEL_OFFLOAD),
        (12 * GB, "bf16", 1024, Placement.LAYER_OFFLOAD),
        (3 * GB, "bf16", 512, Placement.LAYER_OFFLOAD),
        (1 * GB, "bf16", 512, Placement.LAYER_OFFLOAD),
        (32 * GB, "fp32", 1024, Placement.MODEL_OFFLOAD),
        (15 * GB, "fp32", 1024, Placement.LAYER_OFFLOAD),
        (48 * GB, "fp32", 1024, Placement.GPU),
    ],
)
def test_the_best_fit_for_the_free_memory(free: float, dtype: str, size: int, placement: Placement) -> None:
    fits = fits_within(gpu_fits(Z_IMAGE, dtype, sizes_to_try(1024, None)), int(free))
    assert (fits[0].size, fits[0].placement) == (size, placement)


def test_the_peak_that_was_measured_is_foreseen() -> None:
    """23.3 GB for 1024 px in bf16; the estimate must not be below it, nor much above."""
    assert 23.3 * GB <= gpu_fits(Z_IMAGE, "bf16", (1024,))[0].needs_bytes <= 24.2 * GB


def test_after_the_first_only_smaller_ones_are_tried() -> None:
    fits = fits_within(gpu_fits(Z_IMAGE, "bf16", sizes_to_try(1024, None)), 140 * GB)
    needs = [fit.needs_bytes for fit in fits]
    assert needs == sorted(needs, reverse=True)
    assert fits[-1].placement is Placement.LAYER_OFFLOAD
    assert fits[-1].size == 512


def test_a_size_that_was_asked_for_is_not_changed() -> None:
    assert sizes_to_try(1024, 896) == (896,)
    assert {fit.size for fit in fits_within(gpu_fits(Z_IMAGE, "bf16", (896,)), 16 * GB)} == {896}


def test_a_small_model_is_not_drawn_larger_than_it_was_made_for() -> None:
    assert sizes_to_try(128, None) == (128,)
    assert sizes_to_try(640, None) == (640, 512)
