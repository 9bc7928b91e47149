"""Work out the features of a data set's pictures, once for all its versions and runs."""

import io
import statistics
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture
from sqlalchemy import select

from backend.core import catalogue
from backend.core.models import Image
from backend.core.storage import Storage
from worker import engine
from worker.engine import FeatureStore, StoredFeatures
from worker.jobs import JobContext, JobFailed
from worker.pipeline import engine_setup
from worker.pipeline.imports.decoding import THUMBNAIL_SIDE

# Between two looks at what other workers compute.
WAIT_SECONDS = 0.5


class _Vanished(Exception):
    """A picture that cannot be read; row: of its image."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


@dataclass(frozen=True)
class _Pictures:
    """Stored pictures of a data set in order of rows."""

    storage: Storage
    data_set_id: int
    hashes: list[str]
    sides: list[int]  # the larger one, of the original
    train: np.ndarray  # (M,) bool

    def store(self, digest: str, width: int) -> FeatureStore:
        """Open the store of a backbone's features. width: D."""
        return engine_setup.feature_store(
            self.storage, self.data_set_id, digest, width, self.hashes
        )

    def read(self, row: int) -> Picture.Image:
        """Decode a picture of at most 1,600 pixels a side. Raises _Vanished."""
        try:
            content = self.storage.read_image(self.data_set_id, self.hashes[row], full=True)
            picture = Picture.open(io.BytesIO(content or b""), formats=("WEBP",))
            picture.load()
        except (OSError, ValueError, SyntaxError) as error:
            raise _Vanished(row) from error
        # Without its full picture, a large image answers with its thumbnail.
        if max(picture.size) <= THUMBNAIL_SIDE < self.sides[row]:
            raise _Vanished(row)
        return picture


def make_features(context: JobContext) -> None:
    """Work out the features of the job's data set by the payload's backbone."""
    work_out(
        context,
        context.subject_id,
        context.payload.get("backbone", catalogue.DEFAULT_BACKBONE),
    )


def work_out(
    context: JobContext, data_set_id: int, backbone_name: str = catalogue.DEFAULT_BACKBONE
) -> StoredFeatures:
    """Return a data set's features in order of rows; compute what is missing, with progress.

    Several workers may do this at once: they share the parts, and what is done is kept.

    Raises:
        EngineError: unknown backbone, or bad weights.
        JobFailed: a picture vanished, or nothing to train on.
    """
    pictures = _load(context, data_set_id)
    facts = catalogue.BACKBONES.get(backbone_name)
    if facts is not None:
        store = pictures.store(facts.digest, facts.features)
        if store.is_joined() and store.is_complete():
            return store.open()
    device = engine.choose_device(engine_setup.ready(context.settings, context.storage))
    context.progress(0, len(pictures.hashes), "Loading the backbone")
    backbone = engine.load_backbone(backbone_name)
    store = pictures.store(backbone.digest, backbone.features)
    store.salvage()
    if statistics.median(pictures.sides) < backbone.side:
        context.log(
            f"Most pictures are smaller than the {backbone.side} pixels that the backbone sees, so "
            "they are enlarged, and its features know less of them."
        )
    reporter = _Reporter(context, store)
    while not store.is_joined() and reporter.count():
        if not _compute_parts(context, store, backbone, pictures, str(device), reporter):
            reporter(0)
            time.sleep(WAIT_SECONDS)
    while not store.join(pictures.train, lambda: reporter(0)):
        reporter(0)
        time.sleep(WAIT_SECONDS)
    return store.open()


def _load(context: JobContext, data_set_id: int) -> _Pictures:
    columns = (Image.content_hash, Image.width, Image.height, Image.split)
    statement = select(*columns).where(Image.data_set_id == data_set_id).order_by(Image.row)
    with context.database.transaction(write=False) as session:
        rows = session.execute(statement).all()
    train = np.array([split == "train" for *_, split in rows], dtype=bool)
    if not train.any():
        raise JobFailed(
            "This data set has no training image, so features have no use. Import it again with "
            "some."
        )
    hashes = [content_hash for content_hash, *_ in rows]
    sides = [max(width, height) for _, width, height, _ in rows]
    return _Pictures(context.storage, data_set_id, hashes, sides, train)


@dataclass
class _Reporter:
    """Reports the pictures that are done, by this worker and others."""

    context: JobContext
    store: FeatureStore
    done: int = 0

    def count(self) -> int:
        """Count the missing rows."""
        missing = self.store.count_missing()
        self.done = len(self.store) - missing
        return missing

    def __call__(self, more: int) -> None:
        total = len(self.store)
        done = min(self.done + more, total)
        self.context.progress(done, total, f"Working out features, {done:,} of {total:,}")


def _compute_parts(
    context: JobContext,
    store: FeatureStore,
    backbone: engine.Backbone,
    pictures: _Pictures,
    device: str,
    reporter: _Reporter,
) -> int:
    """Compute the missing parts that no other worker has claimed; returns how many."""
    computed = 0
    for rows in store.parts:
        if store.has(rows):
            continue
        with store.claim(rows) as mine:
            if not mine:
                continue
            try:
                features = engine.compute_features(
                    backbone,
                    lambda n, first=rows.start: pictures.read(first + n),  # type: ignore[misc]
                    len(rows),
                    device=device,
                    tick=reporter,
                )
            except _Vanished as error:
                raise JobFailed(_name_vanished(context, pictures, error.row)) from error
            store.write(rows, features)
        context.note_safe_point()
        reporter.count()
        computed += 1
    return computed


def _name_vanished(context: JobContext, pictures: _Pictures, row: int) -> str:
    same = (Image.data_set_id == pictures.data_set_id, Image.row == row)
    with context.database.transaction(write=False) as session:
        path = session.scalar(select(Image.path).where(*same))
    return (
        f"The stored picture of “{(path or '')[:200]}” is missing or damaged. If the files are on "
        "another machine, let all workers share one folder of files; else import the data set "
        "again."
    )
