"""Images: every format becomes upright sRGB, or is refused with its code before it costs memory."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from infinite_talk.errors import InputError
from infinite_talk.inputs.image import BACKGROUND, read_image, read_mask
from infinite_talk.inputs.resize import nearest, resize_masks, resize_picture, to_tensor
from infinite_talk.types import Size

LIMIT = 40_000_000


def read(path, limit=LIMIT):
    still, notes = read_image(path, max_pixels=limit)
    assert still.still
    assert still[0] is still[1000]
    picture = still[0]
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    return picture, notes


def refused(path, limit=LIMIT) -> str:
    with pytest.raises(InputError) as error:
        read_image(path, max_pixels=limit)
    assert len(error.value.message) < 400
    return error.value.code


def sample(width: int = 96, height: int = 64) -> Image.Image:
    """A picture with a red top left corner on a blue-green ramp."""
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 1] = np.linspace(0, 200, width)
    ramp[..., 2] = np.linspace(50, 250, height)[:, None]
    ramp[: height // 4, : width // 4] = (250, 10, 10)
    return Image.fromarray(ramp)


def bomb(width: int, height: int, *extra: bytes) -> bytes:
    """A PNG that announces many pixels and holds almost none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(extra)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


# I1


@pytest.mark.parametrize(
    ("width", "height", "code"),
    [
        (1, 1, "image_too_small"),
        (16, 16, "image_too_small"),
        (1, 4000, "image_too_small"),
        (4000, 31, "image_too_small"),
        (64, 400, "image_aspect"),
        (400, 64, "image_aspect"),
    ],
)
def test_i1_too_small_or_too_narrow(tmp_path, width, height, code):
    path = tmp_path / "small.png"
    Image.new("RGB", (width, height)).save(path)
    assert refused(path) == code


def test_i1_limits_are_named(tmp_path):
    path = tmp_path / "small.png"
    Image.new("RGB", (20, 30)).save(path)
    with pytest.raises(InputError, match=r"20x30.*32"):
        read_image(path, max_pixels=LIMIT)


# I2, I3


@pytest.mark.parametrize("side", [6400, 10_000, 20_000, 65_000])
def test_i2_i3_bombs_are_refused_before_decoding(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(side, side))
    assert refused(path) == "image_too_large"


def test_i3_compressed_text_bomb(tmp_path):
    text = b"k\0\0" + zlib.compress(bytes(80_000_000))
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    path = tmp_path / "text.png"
    path.write_bytes(bomb(64, 64, chunk))
    assert refused(path) in {"image_unsupported", "image_corrupt"}


# I4


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "CMYK", "LA", "RGBA"])
def test_i4_every_kind_of_pixels(tmp_path, mode):
    suffix = ".jpg" if mode == "CMYK" else ".png"
    path = tmp_path / f"picture{suffix}"
    original = sample()
    original.convert(mode).save(path, **({"quality": 100} if mode == "CMYK" else {}))
    picture, _ = read(path)
    expected = np.asarray(original.convert("L" if mode in {"1", "LA"} else mode).convert("RGB")).astype(int)
    tolerance = 130 if mode == "1" else 12
    assert np.abs(picture - expected).mean() < tolerance


def test_i4_sixteen_bit_grey(tmp_path):
    values = np.linspace(0, 65_535, 64 * 96).reshape(64, 96).astype(np.uint16)
    path = tmp_path / "deep.png"
    Image.fromarray(values).save(path)
    picture, _ = read(path)
    assert np.abs(picture[..., 0] - values / 257).max() <= 0.5
    assert (picture[..., 0] == picture[..., 2]).all()


# I5


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_i5_transparency_shows_the_background(tmp_path, suffix):
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[16:48, 16:48] = (200, 100, 50, 255)
    pixels[0:8] = (0, 0, 0, 128)
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True, "exact": True} if suffix == ".webp" else {}))
    picture, notes = read(path)
    assert tuple(picture[60, 60]) == BACKGROUND
    assert tuple(picture[32, 32]) == (200, 100, 50)
    assert abs(int(picture[4, 4, 0]) - 127) <= 1
    assert any("transparent" in note for note in notes)


def test_i5_transparent_palette(tmp_path):
    image = Image.new("P", (64, 64), 0)
    image.putpalette([0, 0, 0, 10, 20, 30] + [0] * 750)
    ImageDraw.Draw(image).rectangle((16, 16, 47, 47), fill=1)
    path = tmp_path / "palette.png"
    image.save(path, transparency=0)
    picture, _ = read(path)
    assert tuple(picture[0, 0]) == BACKGROUND
    assert tuple(picture[32, 32]) == (10, 20, 30)


# I6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_i6_orientation(tmp_path, orientation):
    upright = sample()
    # What the camera stored, so that the tag's transform brings it upright.
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    picture, _ = read(path)
    assert np.array_equal(picture, np.asarray(upright))


# I7


@pytest.mark.parametrize(("suffix", "options"), [(".gif", {}), (".webp", {"lossless": True}), (".png", {})])
def test_i7_animations_show_their_first_picture(tmp_path, suffix, options):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    path = tmp_path / f"moving{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    picture, notes = read(path)
    assert np.abs(picture.reshape(-1, 3).mean(axis=0) - (200, 0, 0)).max() < 3
    assert any("animated" in note for note in notes)


# I8


def test_i8_colour_profiles(tmp_path):
    original = sample()
    path = tmp_path / "profile.png"
    original.save(path, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    same, _ = read(path)
    assert np.abs(same.astype(int) - np.asarray(original)).max() <= 2


def test_i8_wide_gamut_profile_changes_colours(tmp_path):
    path = tmp_path / "wide.png"
    sample().save(path, icc_profile=swapped_profile())
    picture, notes = read(path)
    # A profile whose red and blue are exchanged turns the red corner blue.
    assert not notes
    assert picture[2, 2, 2] > 200
    assert picture[2, 2, 0] < 60


def swapped_profile() -> bytes:
    """The sRGB profile with the names of the red and blue primaries exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    entries = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(data)


def test_i8_broken_profile_is_ignored_with_a_note(tmp_path):
    path = tmp_path / "broken.png"
    sample().save(path, icc_profile=b"no profile at all" * 10)
    picture, notes = read(path)
    assert np.array_equal(picture, np.asarray(sample()))
    assert any("profile" in note for note in notes)


# I9


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("a.pdf", b"%PDF-1.4 nothing"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        ("a.exr", b"\x76\x2f\x31\x01" + bytes(100)),
        ("a.png", b"GIF is not enough"),
        ("a.jpg", bytes(range(256)) * 20),
    ],
)
def test_i9_other_formats(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert refused(path) == "image_unsupported"


def test_i9_formats_that_the_library_could_read(tmp_path):
    for suffix, code in (
        (".tiff", "TIFF"),
        (".ppm", "PPM"),
        (".ico", "ICO"),
        (".tga", "TGA"),
        (".dds", "DDS"),
    ):
        path = tmp_path / f"picture{suffix}"
        sample(64, 64).save(path, code)
        assert refused(path) == "image_unsupported"


# I10


def test_i10_damaged(tmp_path):
    buffer = io.BytesIO()
    sample(400, 300).save(buffer, "JPEG")
    whole = buffer.getvalue()
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: len(whole) // 2])
    assert refused(path) == "image_corrupt"
    path.write_bytes(whole + b"<html><script>alert(1)</script></html>")
    assert read(path)[0].shape == (300, 400, 3)
    path.write_bytes(b"")
    assert refused(path) == "image_empty"


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_i10_any_damage_ends_in_our_errors(tmp_path, data):
    code = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF"]))
    buffer = io.BytesIO()
    sample().save(buffer, code)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 4] = data.draw(st.binary(max_size=8))
    path = tmp_path / "damaged"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(InputError):
        read(path)


# I11


def test_i11_no_face_is_needed(tmp_path):
    path = tmp_path / "plain.png"
    Image.new("RGB", (64, 64), (9, 9, 9)).save(path)
    assert read(path)[0].shape == (64, 64, 3)


# I12


@pytest.mark.parametrize(
    "name",
    ["CON", "-rf", "new\nline.png", "\x1b[31mred.png", "smile \U0001f600.png", "n" * 250, "%s {x}.png"],
)
def test_i12_any_name_is_only_a_name(tmp_path, name):
    path = tmp_path / name
    sample().save(path, "PNG")
    assert read(path)[0].shape == (64, 96, 3)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError) as error:
        read_image(path, max_pixels=LIMIT)
    assert "\n" not in error.value.message
    assert "\x1b" not in error.value.message


@pytest.mark.parametrize("name", ["../../absent", "a\0b", "n" * 300, "\udcff"])
def test_i12_names_that_are_no_file(tmp_path, name):
    assert refused(tmp_path / name) == "image_not_found"


def test_devices_and_pipes_are_refused_at_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert refused(pipe) == "image_unreadable"
    from pathlib import Path

    assert refused(Path("/dev/zero")) == "image_unreadable"
    assert refused(tmp_path) == "image_unreadable"


# Masks


def test_masks(tmp_path):
    path = tmp_path / "mask.png"
    pixels = np.zeros((64, 96), np.uint8)
    pixels[10:20, 30:40] = 200
    Image.fromarray(pixels).save(path)
    assert np.array_equal(read_mask(path, 64, 96, max_pixels=LIMIT), pixels > 0)
    with pytest.raises(InputError, match=r"96x64.*65x96"):
        read_mask(path, 96, 65, max_pixels=LIMIT)
    Image.new("L", (96, 64)).save(path)
    with pytest.raises(InputError) as error:
        read_mask(path, 64, 96, max_pixels=LIMIT)
    assert error.value.code == "mask_empty"
    with pytest.raises(InputError) as error:
        read_mask(tmp_path / "absent.png", 64, 96, max_pixels=LIMIT)
    assert error.value.code == "mask_not_found"


def test_transparent_parts_of_a_mask_are_dark(tmp_path):
    path = tmp_path / "mask.png"
    pixels = np.full((64, 96, 4), 255, np.uint8)
    pixels[:, 48:, 3] = 0
    Image.fromarray(pixels).save(path)
    mask = read_mask(path, 64, 96, max_pixels=LIMIT)
    assert mask[:, :48].all()
    assert not mask[:, 48:].any()


# Resizing


@given(st.integers(32, 300), st.integers(32, 300), st.integers(4, 20), st.integers(4, 20))
@settings(max_examples=30, deadline=None)
def test_resized_pictures_cover_the_target_evenly(height, width, rows, columns):
    size = Size(16 * rows, 16 * columns)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, width)
    picture[..., 1] = np.linspace(0, 255, height)[:, None]
    resized = resize_picture(picture, size)
    assert resized.shape == (size.height, size.width, 3)
    # The middle of the source stays in the middle.
    assert (
        abs(int(resized[size.height // 2, size.width // 2, 0]) - 127) <= 255 / min(width, size.width) * 2 + 2
    )
    assert (
        abs(int(resized[size.height // 2, size.width // 2, 1]) - 127)
        <= 255 / min(height, size.height) * 2 + 2
    )
    tensor = to_tensor(resized)
    assert tensor.shape == (3, size.height, size.width)
    assert tensor.min() >= -1
    assert tensor.max() <= 1
    assert resize_masks(np.ones((2, height, width), np.bool_), size).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 90), st.integers(1, 90), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_nearest_is_torchs_nearest(height, width, rows, columns, seed):
    import torch

    planes = np.random.default_rng(seed).random((2, height, width)) > 0.5
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(planes).float()[None], size=(rows, columns), mode="nearest"
    )[0]
    assert np.array_equal(nearest(planes, rows, columns), expected.numpy() > 0)
