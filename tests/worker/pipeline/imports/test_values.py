"""Other pictures become 8 bits in the same way in a whole data set, and a note says so."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from tests.worker.pipeline.imports.importing import (
    Importer,
    class_folders,
    encoded,
    importer,
    noise,
    png,
)
from worker.pipeline.imports import pixels
from worker.pipeline.imports.conversion import NO_VALUE, swallowed_by
from worker.pipeline.imports.decoding import CUT_OFF, decode
from worker.pipeline.imports.reading import BLACK, GREY, WHITE, Mark, Reading
from worker.pipeline.imports.refused import Refused

__all__ = ["importer"]  # a fixture
LIMIT = 50_000_000
GOOD = class_folders({"a": 3, "b": 3}, mode="L")
SIDE = 32
Pictures = dict[str, bytes]


def values(seed: int, low: float, high: float, kind: type = np.uint16) -> np.ndarray:
    drawn = np.random.default_rng(seed).uniform(low, high, (SIDE, SIDE))
    return drawn.round().astype(kind) if kind is not np.float32 else drawn.astype(kind)


def deep(array: np.ndarray, kind: str = "TIFF") -> bytes:
    return encoded(Picture.fromarray(array), kind)


def folders(pictures: list[bytes], suffix: str = "tif") -> Pictures:
    return {
        f"{name}/{number:02d}.{suffix}": data
        for number, data in enumerate(pictures)
        for name in [("a", "b")[number % 2]]
    }


def notes(importer: Importer, pictures: Pictures) -> str:
    return " ".join(importer.zip(pictures).row.report["notes"])


# ── more than 8 bits ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [(0, 4095, "PNG"), (29_400, 29_655, "TIFF"), (0, 65_535, "PNG"), (-300, 70_000, "TIFF")],
)
def test_values_of_many_bits_get_a_range_for_the_whole_data_set(
    importer: Importer, low: int, high: int, kind: str
) -> None:
    """Of 12 bits in 16, of a thermal camera, of all 16 bits, and of 32."""
    sort: type = np.uint16 if low >= 0 else np.int32
    arrays = [values(seed, low, high, sort) for seed in range(12)]
    done = importer.zip(folders([deep(array, kind) for array in arrays]))
    stored = np.concatenate([done.pixels_of(image.path).ravel() for image in done.images])
    assert stored.min() == 0
    assert stored.max() == 255
    assert 120 < stored.mean() < 135
    assert len(np.unique(stored)) > 200
    # Equal values are equal grey levels, whatever else is in their pictures.
    levels: dict[int, set[int]] = {}
    for number, array in enumerate(arrays):
        got = done.pixels_of(f"{('a', 'b')[number % 2]}/{number:02d}.tif")
        for value, level in zip(array.ravel(), got.ravel(), strict=True):
            levels.setdefault(int(value), set()).add(int(level))
    assert all(len(found) == 1 for found in levels.values())
    note = done.row.report["notes"][0]
    bits = "16" if sort is np.uint16 else "32"
    assert note.startswith(f"12 images hold {bits}-bit values. In every such image ")
    assert note.endswith("of the values of a sample, 99.8 % lie between them.")


@pytest.mark.slow
def test_a_deep_picture_that_the_survey_did_not_meet_gets_a_range_all_the_same(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the 8 pictures, the survey sees the first and the last."""
    monkeypatch.setattr(pixels, "SURVEYED", 2)
    twelve_bits = deep(values(1, 0, 4095), "PNG")
    done = importer.zip({**GOOD, "a/50.png": twelve_bits, "b/00a.png": png(40, mode="L")})
    assert 120 < done.pixels_of("a/50.png").mean() < 135
    assert "1 image holds 16-bit values." in done.row.report["notes"][0]


@pytest.mark.slow
def test_8_bit_pictures_among_deep_pictures_stay_as_they_are(importer: Importer) -> None:
    done = importer.zip({**GOOD, "a/deep.png": deep(values(1, 0, 4095), "PNG")})
    assert (done.pixels_of("b/02.png")[..., 0] == np.asarray(noise(5, mode="L"))).all()


@pytest.mark.slow
@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_values_that_are_no_finite_numbers_do_not_swallow_the_others(
    importer: Importer, odd: float
) -> None:
    arrays = [values(seed, 0, 1, np.float32) for seed in range(6)]
    arrays[0][3, 4] = odd
    done = importer.zip(folders([deep(array) for array in arrays]))
    pixels_of_first = done.pixels_of("a/00.tif")[..., 0]
    assert pixels_of_first[3, 4] == (255 if odd == np.inf else 0)
    expected = np.clip(arrays[0] * 255, 0, 255)
    expected[3, 4] = pixels_of_first[3, 4]
    assert np.abs(pixels_of_first - expected).max() < 3
    assert (
        "1 image (“a/00.tif”) holds values that are infinite or not a number: +∞ became white"
        in " ".join(done.row.report["notes"])
    )


@pytest.mark.slow
def test_a_picture_without_any_number_is_refused(importer: Importer) -> None:
    nothing = np.full((SIDE, SIDE), np.nan, np.float32)
    nothing[0, 0] = np.inf
    done = importer.zip({**GOOD, "a/nothing.tif": deep(nothing)})
    assert done.refusals == {"a/nothing.tif": NO_VALUE}


def sixteen_bit_colour(array: np.ndarray, kind: str) -> bytes:
    """Encode (H, W, 3 or 4) of 16 bits as PNG or plain TIFF, which Pillow cannot write."""
    height, width, bands = array.shape
    if kind == "PNG":

        def chunk(name: bytes, data: bytes) -> bytes:
            return (
                struct.pack(">I", len(data))
                + name
                + data
                + struct.pack(">I", zlib.crc32(name + data))
            )

        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
        header = struct.pack(">IIBBBBB", width, height, 16, 2 if bands == 3 else 6, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
        )
    data = array.astype("<u2").tobytes()
    bits = struct.pack(f"<{bands}H", *[16] * bands)
    return plain_tiff(data + bits, width, height, bands, (3, bands, 8 + len(data)))


def plain_tiff(
    data: bytes, width: int, height: int, bands: int, bits: tuple[int, int, int]
) -> bytes:
    """Make an uncompressed little-endian TIFF; `bits` is the entry of BitsPerSample."""
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, *bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2 if bands >= 3 else 1),
        (273, 4, 1, 8),
        (277, 3, 1, bands),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
        *([(338, 3, 1, 2)] if bands == 4 else []),
    ]
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + table + bytes(4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bands", [3, 4])
def test_16_bit_colour_keeps_its_lower_bytes(importer: Importer, kind: str, bands: int) -> None:
    """Values of 12 bits would leave 16 levels of the upper byte."""
    generator = np.random.default_rng(0)
    arrays = generator.integers(0, 4096, (6, SIDE, SIDE, bands), dtype=np.uint16)
    if bands == 4:
        arrays[..., 3] = 65_535
    done = importer.zip(folders([sixteen_bit_colour(array, kind) for array in arrays]))
    assert done.refusals == {}
    stored = done.pixels_of("a/00.tif")
    assert np.abs(stored - arrays[0][..., :3] / 4095 * 255).max() < 2
    assert done.row.report["notes"][0].startswith("6 images hold 16-bit values.")


# ── what a conversion loses ───────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_pictures_that_a_conversion_makes_plain_coarse_or_equal_are_named(
    importer: Importer,
) -> None:
    wide = [deep(values(seed, 0, 60_000)) for seed in range(4)]
    narrow = [deep(values(seed, 30_000, 30_900)) for seed in range(10, 12)]
    flat = [deep(values(seed, 20_000, 20_040)) for seed in range(20, 22)]
    said = notes(importer, folders(wide + narrow + flat))
    assert (
        "2 images (for example “a/06.tif”, “b/07.tif”) are a single plain colour each after the "
        "conversion to 8 bits, though their files are not." in said
    )
    assert (
        "2 images (for example “a/04.tif”, “b/05.tif”) have at most 16 grey levels after the "
        "conversion to 8 bits, and more in their files." in said
    )
    assert (
        "1 image (“b/07.tif”) equals another only after the conversion to 8 bits; their files "
        "differ." in said
    )


@pytest.mark.slow
def test_true_copies_and_plain_files_are_no_fault_of_a_conversion(importer: Importer) -> None:
    wide = [deep(values(seed, 0, 60_000)) for seed in range(6)]
    plain = deep(np.full((SIDE, SIDE), 30_000, np.uint16))
    said = notes(importer, folders([*wide, wide[0], plain]))
    assert "single plain colour" not in said
    assert "equal" not in said


# ── transparency ──────────────────────────────────────────────────────────────────────────────────


def drawing(colour: int, seed: int) -> bytes:
    """A ring of this grey level on a transparent ground."""
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(y - 16, x - 16)
    rgba = np.zeros((SIDE, SIDE, 4), np.uint8)
    rgba[..., :3] = colour
    rgba[..., 3] = np.where(abs(distance - 6 - seed % 8) < 2, 255, 0)
    return encoded(Picture.fromarray(rgba))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("colours", "ground", "word"),
    [
        ([255], BLACK, "black"),
        ([250], BLACK, "black"),
        ([0], WHITE, "white"),
        ([128], WHITE, "white"),
        ([255, 0], GREY, "grey"),
    ],
)
def test_the_ground_of_transparent_drawings_shows_them_all(
    importer: Importer, colours: list[int], ground: int, word: str
) -> None:
    drawings = [drawing(colours[seed % len(colours)], seed) for seed in range(8)]
    done = importer.zip(folders(drawings, "png"))
    for image in done.images:
        shown = done.pixels_of(image.path)
        assert shown[0, 0, 0] == 0 or shown.min() == ground or shown.max() == ground
        assert np.ptp(shown[4:28, 4:28]) > 100
    assert f"have transparent parts; {word} was laid under each" in done.row.report["notes"][0]


@pytest.mark.slow
def test_a_few_white_drawings_do_not_change_the_ground_of_the_others(importer: Importer) -> None:
    drawings = [drawing(0, seed) for seed in range(30)]
    done = importer.zip(folders([*drawings, drawing(255, 1)], "png"))
    said = " ".join(done.row.report["notes"])
    assert "white was laid under each of them." in said
    assert "1 image (“a/30.png”) is a single plain colour after" in said


def test_what_cannot_be_seen_is_swallowed_by_no_ground() -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    assert swallowed_by(clear) == []
    clear[..., :3], clear[0, :, 3] = 255, 255
    assert swallowed_by(clear) == [WHITE]


# ── several frames ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_of_several_frames_is_named(importer: Importer, kind: str) -> None:
    frames = [noise(seed, mode="L") for seed in (70, 71, 72)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    said = notes(importer, {**GOOD, "a/film.x": buffer.getvalue(), "b/film.png": buffer.getvalue()})
    assert (
        "2 images (for example “a/film.x”, “b/film.png”) hold several frames or pages; only the "
        "first of each was imported." in said
    )


# ── files that are cut off, or of another kind ────────────────────────────────────────────────────


def refusal(data: bytes) -> str:
    with pytest.raises(Refused) as refused:
        decode(io.BytesIO(data), LIMIT)
    return str(refused.value)


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_whose_data_end_early_is_cut_off(mode: str, subsampling: int) -> None:
    """Its end mark is there; libjpeg fills the rest with grey."""
    whole = encoded(noise(1, (200, 200), mode), "JPEG", subsampling=subsampling)
    middle = (len(whole) + whole.index(b"\xff\xda")) // 2
    assert refusal(whole[:middle] + b"\xff\xd9") == CUT_OFF
    assert decode(io.BytesIO(whole), LIMIT).size == (200, 200)


def test_a_jpeg_that_claims_a_larger_size_is_cut_off() -> None:
    data = bytearray(encoded(noise(1), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 7000, 7000)
    assert refusal(bytes(data)) == CUT_OFF


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("grey", [0, 127, 128, 255])
def test_a_whole_jpeg_with_a_plain_lower_half_is_not_cut_off(grey: int, progressive: bool) -> None:
    picture = np.asarray(noise(1, (300, 300))).copy()
    picture[100:] = grey
    data = encoded(Picture.fromarray(picture), "JPEG", progressive=progressive)
    assert decode(io.BytesIO(data), LIMIT).size == (300, 300)
    plain = encoded(Picture.new("L", (300, 300), grey), "JPEG", progressive=progressive)
    assert decode(io.BytesIO(plain), LIMIT).size == (300, 300)


@pytest.mark.parametrize("kind", ["WEBP", "BMP"])
@pytest.mark.parametrize("left", [0.03, 0.5, 0.99])
def test_a_shortened_file_is_cut_off_with_its_lengths(kind: str, left: float) -> None:
    whole = encoded(noise(1, (200, 200)), kind)
    length = max(40, int(left * len(whole)))
    assert (
        refusal(whole[:length])
        == f"the image is cut off: it should have {len(whole):,} bytes, and has {length:,}"
    )


def several_bands(bands: int) -> bytes:
    data = np.random.default_rng(0).integers(0, 256, (24, 24, bands), dtype=np.uint8).tobytes()
    bits = bytes(struct.pack(f"<{bands}H", *[8] * bands))
    return plain_tiff(data + bits, 24, 24, bands, (3, bands, 8 + len(data)))


@pytest.mark.parametrize("bands", [5, 7, 13])
def test_a_tiff_of_other_bands_is_called_that_and_not_damaged(bands: int) -> None:
    assert (
        refusal(several_bands(bands))
        == f"it has {bands} bands; Winnow takes grey or colour (1, 3, or 4 with transparency)"
    )


def test_a_tiff_of_64_bits_a_value_names_them() -> None:
    data = np.zeros((24, 24)).tobytes()
    assert refusal(plain_tiff(data, 24, 24, 1, (3, 1, 64))) == (
        "it holds 64-bit integer values, which Winnow does not read so; save it as grey with 8, "
        "16 or 32 bits, or as colour with 8 or 16 bits"
    )


FOREIGN = {
    "a HEIC picture": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "an AVIF picture": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf",
    "a DICOM file": bytes(128) + b"DICM" + bytes(100),
    "a JPEG 2000 picture": b"\0\0\0\x0cjP  \r\n\x87\n",
    "a JPEG XL picture": b"\xff\x0a\xfa\x1f",
    "a Photoshop file": b"8BPS\0\1" + bytes(20),
    "a PDF": b"%PDF-1.7",
    "a NumPy array": b"\x93NUMPY\1\0",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_picture_of_another_format_is_called_by_its_name(what: str) -> None:
    assert (
        refusal(FOREIGN[what])
        == f"this is {what}, which Winnow does not read; convert it to JPEG or PNG"
    )


def test_a_webp_larger_than_the_limit_is_refused_by_its_size(tmp_path: Path) -> None:
    huge = bytearray(encoded(noise(1), "WEBP", lossless=True))
    claimed = 16_383 - 1
    bits = int.from_bytes(huge[21:25], "little") & ~0xFFFFFFF | claimed | claimed << 14
    huge[21:25] = bits.to_bytes(4, "little")
    assert refusal(bytes(huge)) == "16,383 × 16,383 pixels are more than the limit of 50,000,000"


def test_a_reading_fits_pictures_whose_range_it_knows() -> None:
    reading = Reading({int(Mark.FLOAT): (0.0, 1.0)})
    assert reading.fits(Mark.FLOAT | Mark.FRAMES)
    assert reading.fits(0)
    assert not reading.fits(Mark.SIXTEEN_BIT)
