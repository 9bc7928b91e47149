"""A version written as a table, beside its images, imports as the same data set."""

import pytest

from backend.core.models import DataSet
from backend.datasets import service
from backend.web.exports import READERS, Reader, csv_bytes
from tests.worker.pipeline.imports.importing import Importer, class_folders, importer, png

__all__ = ["importer"]  # a fixture
LABELS = ("-1", "+1", "=SUM(A1)", "@home", 'say "hi", friend', "合格", "Käse; Brot", "1")
FILES = {
    **class_folders(dict.fromkeys(LABELS, 4)),
    "-1/=9.png": png(900),
    "+1/ spaced .png": png(901),
    "1/'quoted'.png": png(902),
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_a_table_of_a_version_imports_as_the_same_data_set(
    importer: Importer, reader: Reader
) -> None:
    first = importer.zip(FILES, seed=3)
    assert set(first.row.class_names) == set(LABELS)
    with importer.database.transaction(write=False) as session:
        data_set = session.get_one(DataSet, first.row.id)
        rows = service.manifest(session, data_set, service.version(session, data_set))
        table = b"".join(csv_bytes(service.MANIFEST_COLUMNS, rows, reader))
    again = importer.zip({**FILES, "manifest.csv": table}, seed=8)
    assert again.refusals == {}
    assert again.essence == first.essence
    assert again.row.class_names == first.row.class_names
    assert (again.row.report["understood"] == []) == (reader == "programs")
