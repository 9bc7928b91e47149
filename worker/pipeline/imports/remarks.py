"""Notes on what conversions to 8 bits did to a data set's pictures."""

from collections import defaultdict
from collections.abc import Sequence

from worker.pipeline.imports.files import Entry
from worker.pipeline.imports.messages import Decoded
from worker.pipeline.imports.reading import BLACK, GREY, WHITE, Mark, Reading

EXAMPLES = 3
KINDS = {
    Mark.SIXTEEN_BIT: "16-bit values",
    Mark.THIRTY_TWO_BIT: "32-bit values",
    Mark.FLOAT: "floating-point values",
}
GROUNDS = {WHITE: "white", GREY: "grey", BLACK: "black"}
Pictures = Sequence[tuple[Entry, Decoded]]


def remarks(pictures: Pictures, reading: Reading) -> list[str]:
    """Say what happened to the pictures, a sentence or two for each kind."""
    marked: dict[Mark, list[str]] = defaultdict(list)
    for entry, picture in pictures:
        for mark in Mark(picture.marks) if picture.marks else ():
            marked[mark].append(entry.path)
    notes = [_scaled(kind, marked[kind], reading) for kind in KINDS if marked[kind]]
    notes += [
        _counted(marked[mark], one, many)
        for mark, one, many in (
            (Mark.NOT_FINITE, *NOT_FINITE),
            (Mark.TRANSPARENT, *_ground(reading)),
            (Mark.FRAMES, *FRAMES),
            (Mark.PLAIN, *PLAIN),
            (Mark.FEW_LEVELS, *FEW_LEVELS),
        )
        if marked[mark]
    ]
    equal = _equal_only_after(pictures)
    return notes + ([_counted(equal, *EQUAL)] if equal else [])


NOT_FINITE = (
    "holds values that are infinite or not a number: +∞ became white, −∞ and the others black.",
    "hold values that are infinite or not a number: +∞ became white, −∞ and the others black.",
)
FRAMES = (
    "holds several frames or pages; only the first was imported.",
    "hold several frames or pages; only the first of each was imported.",
)
PLAIN = (
    "is a single plain colour after the conversion to 8 bits, though its file is not.",
    "are a single plain colour each after the conversion to 8 bits, though their files are not.",
)
FEW_LEVELS = (
    "has at most 16 grey levels after the conversion to 8 bits, and more in its file.",
    "have at most 16 grey levels after the conversion to 8 bits, and more in their files.",
)
EQUAL = (
    "equals another only after the conversion to 8 bits; their files differ.",
    "equal others only after the conversion to 8 bits; their files differ.",
)


def _ground(reading: Reading) -> tuple[str, str]:
    colour = GROUNDS[reading.ground]
    why = "" if reading.ground == WHITE else ", as white would hide what some of them show"
    return (
        f"has transparent parts; {colour} was laid under it{why}.",
        f"have transparent parts; {colour} was laid under each of them{why}.",
    )


def _scaled(kind: Mark, paths: list[str], reading: Reading) -> str:
    black, white = reading.ranges[int(kind)]
    return (
        f"{_images(paths)} {'holds' if len(paths) == 1 else 'hold'} {KINDS[kind]}. In every such "
        f"image {black:,.6g} became black and {white:,.6g} white; of the values of a sample, "
        "99.8 % lie between them."
    )


def _equal_only_after(pictures: Pictures) -> list[str]:
    """List pictures that a conversion made equal to a picture before them."""
    sources: dict[str, set[str]] = defaultdict(set)
    equal = []
    for entry, picture in pictures:
        if not picture.source:
            continue
        known = sources[picture.content_hash]
        if known and picture.source not in known:
            equal.append(entry.path)
        known.add(picture.source)
    return equal


def _counted(paths: list[str], one: str, many: str) -> str:
    examples = ", ".join(f"“{path[:200]}”" for path in paths[:EXAMPLES])
    if len(paths) == 1:
        return f"1 image ({examples}) {one}"
    return f"{len(paths):,} images (for example {examples}) {many}"


def _images(paths: list[str]) -> str:
    return "1 image" if len(paths) == 1 else f"{len(paths):,} images"
