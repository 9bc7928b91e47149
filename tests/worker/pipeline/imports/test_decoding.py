"""Decoding: formats, EXIF, depth, colour, transparency, sizes, thumbnails."""

import hashlib
import io
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageCms

from tests.worker.pipeline.imports.importing import (
    Importer,
    class_folders,
    encoded,
    importer,
    noise,
    png,
)
from worker.pipeline.imports import conversion
from worker.pipeline.imports.conversion import to_eight_bits
from worker.pipeline.imports.decoding import (
    content_hash,
    decode,
    fit,
    thumbnail_and_full,
)
from worker.pipeline.imports.messages import Work
from worker.pipeline.imports.pool import CRASHED, Pool
from worker.pipeline.imports.reading import Reading
from worker.pipeline.imports.refused import Refused

__all__ = ["importer"]  # a fixture
LIMIT = 50_000_000


def decoded(data: bytes) -> Picture.Image:
    return decode(io.BytesIO(data), LIMIT).image


@pytest.mark.slow
def test_every_promised_format_is_imported(importer: Importer) -> None:
    """Lossless formats exactly, lossy formats nearly."""
    smooth = Picture.linear_gradient("L").resize((32, 32)).convert("L")
    formats = {
        "png": "PNG",
        "bmp": "BMP",
        "tif": "TIFF",
        "gif": "GIF",
        "webp": "WEBP",
        "jpg": "JPEG",
        "jpeg": "JPEG",
    }
    files = {
        f"any/{name}.{suffix}": encoded(smooth, kind, quality=95)
        for name, (suffix, kind) in enumerate(formats.items())
    }
    more = class_folders({"any": 2, "other": 3}, mode="L")
    done = importer.zip({**files, **more})
    assert done.refusals == {}
    for path in files:
        off = np.abs(done.pixels_of(path)[..., 0].astype(int) - np.asarray(smooth))
        assert off.max() <= (0 if path.endswith(("png", "bmp", "tif", "gif")) else 8), path


def test_a_wrong_suffix_makes_no_difference() -> None:
    assert (np.asarray(decoded(encoded(noise(1), "BMP"))) == np.asarray(noise(1))).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    """A picture with a bright upper left corner, stored in each of EXIF's eight orientations."""
    upright = np.zeros((40, 60), np.uint8)
    upright[:20, :20] = 255
    undo: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.T,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, 3),
    }
    exif = Picture.Exif()
    exif[0x0112] = orientation
    stored = Picture.fromarray(np.ascontiguousarray(undo[orientation](upright)))
    data = encoded(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    done = decode(io.BytesIO(data), LIMIT)
    assert done.size == done.image.size == (60, 40)
    assert np.abs(np.asarray(done.image).astype(int) - upright).max() < 40


@pytest.mark.filterwarnings("ignore")  # as in the child process
def test_damaged_exif_data_is_no_reason_to_refuse_good_pixels() -> None:
    data = encoded(noise(1), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff broken")
    assert decoded(data).size == (32, 32)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_by_its_full_range(kind: str) -> None:
    values = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    image = decoded(encoded(Picture.fromarray(values), kind))
    assert image.mode == "L"
    assert np.abs(np.asarray(image).astype(float) - values / 257).max() <= 0.51


def test_16_bit_colour_is_converted() -> None:
    # Pillow writes no 16-bit colour, so the file is made by hand: two pixels in a row.
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row = b"\0" + struct.pack(">6H", 65535, 0, 32896, 257, 514, 771)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    image = decoded(data + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b""))
    assert image.mode == "RGB"
    assert np.asarray(image).tolist() == [[[255, 0, 128], [1, 2, 3]]]


def test_float_images_are_stretched_from_least_to_greatest() -> None:
    values = np.linspace(-3, 5, 64, dtype=np.float32).reshape(8, 8)
    values[0, 3] = np.nan
    image = np.asarray(decoded(encoded(Picture.fromarray(values), "TIFF")))
    assert (image[0, 0], image[0, 3], image[7, 7]) == (0, 0, 255)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted(kind: str) -> None:
    cyan = Picture.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = np.asarray(decoded(encoded(cyan, kind))).reshape(-1, 3).mean(0)
    assert red < 60 < 150 < min(green, blue)


def test_cmyk_with_a_broken_profile_is_converted_all_the_same() -> None:
    data = encoded(Picture.new("CMYK", (16, 16), (0, 0, 0, 255)), "JPEG", icc_profile=b"no profile")
    assert np.asarray(decoded(data)).mean() < 60


def test_an_rgb_profile_in_a_cmyk_file_does_no_harm() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (
        np.asarray(
            decoded(
                encoded(Picture.new("CMYK", (16, 16), (0, 0, 0, 255)), "JPEG", icc_profile=profile)
            )
        ).mean()
        < 60
    )


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Picture.new("L", (16, 16), value) for value in (200, 10, 20)]
    for kind in ("GIF", "WEBP"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=50)
        assert abs(int(np.asarray(decoded(buffer.getvalue()))[0, 0]) - 200) <= 3


def test_transparency_lies_over_white() -> None:
    clear = Picture.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert np.asarray(decoded(encoded(clear))).tolist() == np.full((8, 8), 255).tolist()
    half = Picture.new("LA", (8, 8), (0, 128))
    assert abs(int(np.asarray(decoded(encoded(half)))[0, 0]) - 127) <= 1
    palette = Picture.new("P", (8, 8), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    assert (
        np.asarray(decoded(encoded(palette, "PNG", transparency=1))).tolist()
        == np.full((8, 8), 255).tolist()
    )


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"]
)
def test_every_mode_ends_as_grey_or_rgb(mode: str) -> None:
    assert to_eight_bits(Picture.new(mode, (4, 4)), Reading()).image.mode in ("L", "RGB")


def test_the_limit_on_pixels_is_kept_before_anything_is_decoded() -> None:
    with pytest.raises(Refused, match="100 × 50 pixels are more than the limit of 4,999"):
        decode(io.BytesIO(encoded(Picture.new("L", (100, 50)))), 4_999)
    assert decode(io.BytesIO(encoded(Picture.new("L", (100, 50)))), 5_000).size == (100, 50)


def test_a_large_jpeg_keeps_its_size_on_record() -> None:
    large = encoded(Picture.new("L", (4000, 3300), 90), "JPEG")
    done = decode(io.BytesIO(large), LIMIT)
    assert done.size == (4000, 3300)
    assert max(done.image.size) < 4000  # decoded at a half: nothing larger is ever shown
    assert (np.asarray(done.image) == 90).all()


def test_the_hash_is_of_the_picture_not_of_the_file() -> None:
    picture = noise(5)
    assert content_hash(decoded(encoded(picture))) == content_hash(decoded(encoded(picture, "BMP")))
    assert content_hash(decoded(encoded(picture))) != content_hash(decoded(encoded(noise(6))))
    tall, wide = Picture.new("L", (2, 8)), Picture.new("L", (8, 2))
    assert content_hash(tall) != content_hash(wide)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "F"])
def test_a_picture_converted_in_strips_is_the_same_picture(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As large pictures are, to save memory; the 8-bit pictures equal whole conversions."""
    colours = noise(1, (90, 70))
    picture = Picture.fromarray(np.asarray(colours)[..., 0].astype(np.uint16) * 40)
    if mode == "F":
        picture = Picture.fromarray(np.asarray(colours)[..., 0].astype(np.float32))
    elif mode != "I;16":
        colours.putalpha(noise(2, (90, 70), "L"))
        picture = colours.convert("RGB").convert(mode) if mode in ("P", "CMYK") else colours
        picture = picture if picture.mode == mode else colours.convert(mode)
    whole = to_eight_bits(picture, Reading()).image
    if mode == "RGBA":
        white = Picture.new("RGBA", picture.size, (255, 255, 255, 255))
        assert whole == Picture.alpha_composite(white, picture).convert("RGB")
    if mode in ("P", "CMYK"):
        assert whole == picture.convert("RGB")
    monkeypatch.setattr(conversion, "STRIP_PIXELS", 1000)
    assert to_eight_bits(picture, Reading()).image == whole
    assert content_hash(whole) == hashed_at_once(whole)


def hashed_at_once(image: Picture.Image) -> str:
    about = f"{image.mode} {image.width} {image.height} ".encode()
    return hashlib.sha256(about + image.tobytes()).hexdigest()


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1), (7, 900)])
def test_extreme_shapes_fit(size: tuple[int, int]) -> None:
    picture = Picture.new("RGB", size, (250, 250, 250))
    assert fit(picture, 64, 64, 3).shape == (64, 64, 3)
    assert fit(picture, 64, 64, 3).max() == 250
    assert all(data[8:12] == b"WEBP" for data in thumbnail_and_full(picture) if data)


@pytest.mark.slow
def test_small_images_are_shown_exactly_and_large_ones_in_two_sizes(importer: Importer) -> None:
    done = importer.zip(
        {
            **class_folders({"a": 3, "b": 3}),
            "a/large.png": encoded(Picture.new("RGB", (2000, 1000), (9, 99, 199))),
        }
    )
    assert (np.asarray(done.view("a/00.png").convert("RGB")) == np.asarray(noise(0))).all()
    assert not done.storage.full_image(done.row.id, done.images[0].content_hash).exists()
    assert done.view("a/large.png").size == (160, 80)
    assert done.view("a/large.png", full=True).size == (1600, 800)
    large = next(image for image in done.images if image.path == "a/large.png")
    assert (large.width, large.height) == (2000, 1000)


def test_metadata_does_not_reach_the_browser(importer: Importer) -> None:
    exif = Picture.Exif()
    exif[0x010E] = "shot at 52.5200 N, 13.4050 E"
    done = importer.zip(
        {**class_folders({"a": 3, "b": 3}), "a/tagged.jpg": encoded(noise(9), "JPEG", exif=exif)}
    )
    tagged = next(image for image in done.images if image.path == "a/tagged.jpg")
    assert b"52.5200" not in done.storage.thumbnail(done.row.id, tagged.content_hash).read_bytes()


@pytest.mark.slow
def test_an_image_that_kills_the_decoder_is_refused_alone(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child dies like from a broken library: its environment names bytes that end it."""
    hook = importer.folder / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, PIL.Image\n"
        "real = PIL.Image.open\n"
        "def deadly(file, *a, **k):\n"
        "    if b'DEADLY' in file.getvalue(): os.kill(os.getpid(), 9)\n"
        "    return real(file, *a, **k)\n"
        "PIL.Image.open = deadly\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(hook))
    done = importer.zip({**class_folders({"a": 3, "b": 3}), "a/deadly.png": png(50) + b"DEADLY"})
    assert done.refusals == {"a/deadly.png": CRASHED}
    assert done.row.image_count == 6
    assert (done.pixels_of("b/02.png") == np.asarray(noise(5))).all()


@pytest.mark.slow
def test_no_child_outlives_its_pool() -> None:
    with Pool(LIMIT, 2) as pool:
        list(pool.run(Work([png(seed)]) for seed in range(6)))
        processes = [child.process for child in pool._children]
        assert [process.poll() for process in processes] == [None] * len(processes)
        assert processes
    assert all(process.poll() is not None for process in processes)


@pytest.mark.slow
def test_a_pool_that_is_left_in_the_middle_of_its_work_ends_at_once() -> None:
    began = time.monotonic()
    with Pool(LIMIT, 2) as pool:
        for _ in pool.run(Work([png(1)] * 2000) for _ in range(50)):
            break
        left = time.monotonic()
    assert time.monotonic() - left < max(2.0, left - began)
