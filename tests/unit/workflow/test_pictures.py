"""Resizing against Pillow and written-out sizes; ranges and joins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infinite_talk import UsageError
from infinite_talk.nodes.helpers.pictures import (
    GetImageRangeFromBatch,
    GetImageSizeAndCount,
    ImageConcatMulti,
    ImageResizeKJ,
    ImageResizeKJv2,
    ImageScale,
)
from infinite_talk.nodes.helpers.resizing import METHODS, PROPORTIONS, plan_fit


def noise(count: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    values = torch.randint(
        0, 256, (count, height, width, channels), generator=torch.Generator().manual_seed(3)
    )
    return values / 255


def resize(image, width, height, proportion="crop", **options):
    defaults = {
        "upscale_method": "lanczos",
        "pad_color": "0, 0, 0",
        "crop_position": "center",
        "divisible_by": 1,
    }
    return ImageResizeKJv2().resize(image, width, height, keep_proportion=proportion, **defaults | options)


@pytest.mark.parametrize(("height", "width"), [(40, 90), (90, 40)])
def test_lanczos_of_the_middle_is_pillows(height, width):
    image = noise(2, height, width)
    out, out_w, out_h, mask = resize(image, 35, 34, divisible_by=16)
    assert (out_w, out_h) == (32, 32) and mask.shape == (1, 32, 32)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    for got, picture in zip(out, image, strict=True):
        square = (picture[top : top + side, left : left + side] * 255).round().to(torch.uint8).numpy()
        wanted = np.asarray(Image.fromarray(square).resize((32, 32), Image.Resampling.LANCZOS))
        np.testing.assert_array_equal((got * 255).round().numpy(), wanted)


@pytest.mark.parametrize(
    ("position", "kept"), [("left", slice(0, 20)), ("right", slice(40, 60)), ("center", slice(20, 40))]
)
def test_a_crop_lies_where_it_was_asked_for(position, kept):
    image = noise(1, 20, 60)
    out = resize(image, 20, 20, crop_position=position)[0]
    assert torch.equal(out, image[:, :, kept])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_a_plain_colour_and_the_size(method):
    image = torch.full((1, 12, 20, 3), 0.4)
    out = resize(image, 10, 6, "stretch", upscale_method=method)[0]
    assert out.shape == (1, 6, 10, 3)
    assert (out - 0.4).abs().max() < (1 / 255 if method == "lanczos" else 1e-5)


@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(0, 300), st.integers(0, 300), st.sampled_from(PROPORTIONS),
    st.sampled_from(("center", "top", "bottom", "left", "right")), st.sampled_from((1, 2, 16)),
)  # fmt: skip
def test_plans_give_multiples_and_stay_inside(height, width, to_h, to_w, proportion, position, step):
    try:
        plan = plan_fit(
            height,
            width,
            to_height=to_h,
            to_width=to_w,
            proportion=proportion,
            position=position,
            divisible_by=step,
        )
    except UsageError:
        return  # a side would be 0
    left, right, above, below = plan.border
    assert min(plan.border) >= 0 and plan.height > 0 and plan.width > 0
    assert (plan.height + above + below) % step == 0 and (plan.width + left + right) % step == 0
    top, first, kept_h, kept_w = plan.crop
    assert top >= 0 and top + kept_h <= height and first >= 0 and first + kept_w <= width
    assert min(kept_h, kept_w) > 0
    if to_h and to_w and (proportion == "crop" or proportion.startswith("pad")):
        assert (plan.height + above + below, plan.width + left + right) == (
            to_h - to_h % step,
            to_w - to_w % step,
        )


def test_resize_fits_inside_and_pad_fills_around():
    image = torch.full((1, 20, 40, 3), 0.5)
    assert resize(image, 100, 30, "resize")[0].shape == (1, 30, 60, 3)
    assert resize(image, 0, 10, "resize")[0].shape == (1, 10, 20, 3)
    padded = resize(image, 40, 40, "pad", pad_color="255, 0, 0")[0]
    assert torch.equal(padded[0, 0, 0], torch.tensor([1.0, 0, 0]))
    assert torch.equal(padded[0, 20, 20], torch.full((3,), 0.5)) and torch.equal(
        padded[0, 39, 0], padded[0, 0, 0]
    )
    assert torch.equal(resize(image, 40, 40, "pad", pad_color="#ff0000")[0], padded)
    assert torch.allclose(resize(image, 40, 40, "pad_edge")[0], torch.full((1, 40, 40, 3), 0.5))
    edge = torch.arange(20.0)[None, :, None, None].expand(1, 20, 40, 3) / 20
    rows = resize(edge, 40, 40, "pad_edge_pixel", upscale_method="bilinear")[0][0, :, 0, 0]
    assert torch.equal(rows[:11], torch.zeros(11)) and torch.equal(rows[29:], torch.full((11,), 0.95))
    assert resize(noise(1, 20, 40), 64, 64, "pillarbox_blur")[0].shape == (1, 64, 64, 3)
    assert resize(image, 20, 10, "total_pixels")[0].shape == (1, 10, 20, 3)
    with pytest.raises(UsageError, match="three numbers"):
        resize(image, 40, 40, "pad", pad_color="red")
    with pytest.raises(UsageError, match="larger size"):
        resize(image, 8, 8, divisible_by=16)


def test_a_mask_goes_the_same_way():
    image, mask = noise(1, 20, 40), torch.zeros((1, 20, 40))
    mask[:, :, 30:] = 1
    out, _, _, resized = resize(image, 20, 20, mask=mask, crop_position="right")
    assert out.shape[1:3] == resized.shape[1:] and torch.equal(
        resized[0, 0], torch.tensor([0.0] * 10 + [1.0] * 10)
    )


def test_the_older_nodes_name_the_same_things():
    image = noise(1, 20, 60)
    out, width, height = ImageResizeKJ().resize(image, 21, 21, "area", False, 2, crop="center")
    assert (width, height) == (20, 20) and torch.equal(out, image[:, :, 20:40])
    like = ImageResizeKJ().resize(image, 5, 5, "area", False, 2, get_image_size=noise(1, 7, 9))
    assert like[1:] == (9, 7)
    assert ImageScale().upscale(image, "bilinear", 30, 0, "disabled")[0].shape == (1, 10, 30, 3)


def test_ranges_stop_at_the_end_and_count_from_it():
    batch = noise(5, 4, 4)
    take = GetImageRangeFromBatch().imagesfrombatch
    assert torch.equal(take(1, 2, images=batch)[0], batch[1:3])
    assert torch.equal(take(3, 9, images=batch)[0], batch[3:])
    assert torch.equal(take(-1, 2, images=batch)[0], batch[3:])
    with pytest.raises(UsageError, match="5 pictures"):
        take(5, 1, images=batch)


def test_size_and_count():
    batch = noise(5, 4, 6)
    assert GetImageSizeAndCount().getsize(batch)["result"][1:] == (6, 4, 5)


def test_pictures_are_joined_on_the_named_side_and_short_batches_hold():
    one, two = noise(3, 4, 6), noise(2, 4, 5)
    join = ImageConcatMulti().combine
    held = torch.cat([two, two[-1:]])
    assert torch.equal(join(2, one, "left", False, image_2=two)[0], torch.cat([held, one], dim=2))
    assert torch.equal(join(2, one, "right", False, image_2=two)[0], torch.cat([one, held], dim=2))
    assert join(2, one, "down", True, image_2=two)[0].shape == (3, 4 + 5, 6, 3)
    assert join(3, one, "up", False, image_2=None, image_3=one)[0].shape == (3, 8, 6, 3)
    with pytest.raises(UsageError, match="match_image_size"):
        join(2, one, "down", False, image_2=two)
