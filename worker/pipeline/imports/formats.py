"""Open a file as a picture, or say why it is none that can be read."""

import io
import struct
from typing import BinaryIO

from PIL import Image, TiffImagePlugin

from worker.pipeline.imports.refused import Refused

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
FORMATS_FOR_PEOPLE = "JPEG, PNG, WebP, BMP, GIF or TIFF"
# First bytes of JPEG, PNG, GIF and TIFF, to recognize damaged images.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")
DAMAGED = "the image is damaged or cut off"
SAVE_IT = "convert it to JPEG or PNG"
START = 512  # bytes that tell what a file is
# Place, bytes, and what they are the mark of.
FOREIGN = (
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"II+\0", "a BigTIFF file"),
    (0, b"MM\0+", "a BigTIFF file"),
    (0, b"%PDF", "a PDF"),
    (128, b"DICM", "a DICOM file"),
)
# Brands of files in boxes, as telephones write them.
BRANDS = (
    ((b"avif", b"avis"), "an AVIF picture"),
    ((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "a HEIC picture"),
    ((b"crx ",), "a camera's raw file"),
    ((b"isom", b"iso2", b"mp41", b"mp42", b"qt  "), "a video"),
)
DOCUMENTS = (
    ((b"<svg", b"<?xml"), "an SVG or XML file"),
    ((b"<!doctype html", b"<html"), "a web page"),
)
# Sizes of the headers that BMP has had.
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
SAMPLES_PER_PIXEL, BITS_PER_SAMPLE, SAMPLE_FORMAT = 277, 258, 339


def open_image(file: BinaryIO, max_pixels: int) -> Image.Image:
    """Open a picture without decoding it. Raises Refused."""
    start = file.read(START)
    file.seek(0)
    if not start:
        raise Refused("the file is empty (zero bytes)")
    try:
        image = Image.open(file, formats=FORMATS)
    except Exception as error:
        raise Refused(_why_no_image(start, file, max_pixels)) from error
    if image.width * image.height > max_pixels:
        raise Refused(_too_large(image.size, max_pixels))
    return image


def why_damaged(start: bytes, length: int) -> str:
    """Say that a picture is cut off where its own header proves it."""
    claimed = _claimed_length(start)
    if claimed is not None and claimed > length:
        return f"the image is cut off: it should have {claimed:,} bytes, and has {length:,}"
    return DAMAGED


def length_of(file: BinaryIO) -> int:
    return file.seek(0, io.SEEK_END)


def _too_large(size: tuple[int, int], max_pixels: int) -> str:
    return f"{size[0]:,} × {size[1]:,} pixels are more than the limit of {max_pixels:,}"


def _why_no_image(start: bytes, file: BinaryIO, max_pixels: int) -> str:
    length = length_of(file)
    size = _webp_size(start)
    if size is not None and size[0] * size[1] > max_pixels:
        return _too_large(size, max_pixels)
    if start.startswith(SIGNATURES[3:]):
        return _why_no_tiff(file) or DAMAGED
    if start.startswith(SIGNATURES) or _claimed_length(start) is not None:
        return why_damaged(start, length)
    for place, mark, what in FOREIGN:
        if start[place : place + len(mark)] == mark:
            return f"this is {what}, which Winnow does not read; {SAVE_IT}"
    if start[4:8] == b"ftyp":
        for brands, what in BRANDS:
            if start[8:12] in brands:
                return f"this is {what}, which Winnow does not read; {SAVE_IT}"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for marks, what in DOCUMENTS:
        if text.startswith(marks):
            return f"this is {what}, not an image in {FORMATS_FOR_PEOPLE}"
    return f"not a readable image in {FORMATS_FOR_PEOPLE}"


def _why_no_tiff(file: BinaryIO) -> str | None:
    """Say which property of a whole TIFF cannot be read, or None for a damaged file."""
    try:
        file.seek(0)
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        bands = int(tags.get(SAMPLES_PER_PIXEL, 1))
        bits = {int(value) for value in tags.get(BITS_PER_SAMPLE, (1,))}
        kinds = {int(value) for value in tags.get(SAMPLE_FORMAT, (1,))}
    except Exception:
        return None
    if bands not in (1, 3, 4):
        return f"it has {bands} bands; Winnow takes grey or colour (1, 3, or 4 with transparency)"
    if len(bits) > 1:
        return "its bands have different numbers of bits; save it with 8 or 16 bits a band"
    (most,) = bits
    if most > 16 or kinds - {1}:
        number = "floating-point" if kinds == {3} else "complex" if kinds & {5, 6} else "integer"
        return (
            f"it holds {most}-bit {number} values, which Winnow does not read so; save it as grey "
            "with 8, 16 or 32 bits, or as colour with 8 or 16 bits"
        )
    return None


def _claimed_length(start: bytes) -> int | None:
    """Read the length that a WebP or BMP file claims, or None for another file."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return int(struct.unpack_from("<I", start, 4)[0]) + 8
    if start[:2] == b"BM" and len(start) >= 18:
        length, header = struct.unpack_from("<I", start, 2)[0], struct.unpack_from("<I", start, 14)
        return int(length) if header[0] in BMP_HEADERS else None
    return None


def _webp_size(start: bytes) -> tuple[int, int] | None:
    """Read a WebP's size: libwebp takes memory for it before Pillow tells."""
    if start[:4] != b"RIFF" or start[8:12] != b"WEBP" or len(start) < 30:
        return None
    if start[12:16] == b"VP8X":
        width, height = (int.from_bytes(start[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if start[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", start, 26)
        return width & 0x3FFF, height & 0x3FFF
    bits = int.from_bytes(start[21:25], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
