"""Shapes of data sets."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from backend.core.name_encodings import NameEncoding
from backend.core.reports import ImportReport
from backend.jobs.schemas import JobOut
from backend.web.request_body import NAMED, Body

Layout = Literal["splits", "classes", "subfolders"]
SmallClasses = Literal["leave-out", "train-only"]


class Source(Body):
    """Source of the images. A server path must lie below one of WINNOW_IMPORT_FOLDERS."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["kind"], "properties": {"kind": {"const": "sample"}}},
            "else": {"required": ["path"], "properties": {"path": {"type": "string"}}},
        }
    )

    kind: Literal["sample", "folder", "zip", "idx"] = Field(
        "folder", description="sample, or a path: folder, zip archive, MNIST's IDX files"
    )
    path: str | None = Field(None, description="Path on the server, for every kind but the sample.")


def _known_encoding(value: object) -> object:
    """Take the encoding's name in any case; an empty field of a form is none."""
    return value.strip().lower() or None if isinstance(value, str) else value


Column = Annotated[str | None, Field(max_length=200)]


class ImportOptions(Body):
    """Options of an import: fields of the page's form, of a request, and of the command."""

    name: str = Field("", max_length=200, description="Name; made from the source if left out.")
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="Seed of the split into train, validation and test where the source has none.",
    )
    side: int | None = Field(
        None,
        ge=8,
        le=224,
        description="Side of the square images that the model sees; chosen if left out.",
    )
    layout: Layout | None = Field(
        None,
        description="What the upper folders are: splits, classes, or neither, so that the "
        "subfolders are the classes. Recognised if left out; the import asks where it is unsure.",
    )
    small_classes: SmallClasses | None = Field(
        None,
        description="What becomes of classes too small for every split: they are left out, or "
        "kept in train only. The import asks if left out.",
    )
    path_column: Column = Field(
        None, description="A table's column of paths; known by its name or its files if left out."
    )
    label_column: Column = Field(
        None, description="A table's column of labels; known by its name if left out."
    )
    split_column: Column = Field(
        None, description="A table's column of splits; known by its name if left out."
    )
    names_encoding: Annotated[NameEncoding | None, BeforeValidator(_known_encoding)] = Field(
        None,
        description="Encoding of a zip's names, and of a table, that carry no sign of theirs; "
        "recognised if left out.",
    )

    def chosen(self) -> dict[str, Any]:
        """Return the options that were given and that the import reads from the data set's row."""
        fields = ImportOptions.model_fields.keys() - {"name", "seed"}
        return {name: value for name, value in self.model_dump(include=fields).items() if value}


class NewDataSet(ImportOptions):
    """An import to start."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "Screws", "source": {"kind": "folder", "path": "/data/screws"}, "seed": 0},
                {"source": {"kind": "sample"}},
            ]
        }
    )

    source: Source


class ImportPageForm(ImportOptions):
    """The page's import form, which sends one of three forms."""

    kind: Literal["upload", "folder", "sample"] = "upload"
    path: str = ""


class Answer(Body):
    """An answer to the question that an import stopped at."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"answer": "splits"}]})

    answer: str = Field(
        min_length=1, max_length=200, description="One of the answers in `report.question.choices`."
    )


class Rename(Body):
    """A data set's new name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Screws, second delivery"}]})

    name: str = Field(min_length=1, max_length=200, json_schema_extra=NAMED)


class DataSetSummary(BaseModel):
    """A data set in a list."""

    id: int
    name: str
    state: str
    seed: int
    class_names: list[str]
    height: int
    width: int
    channels: int
    image_count: int
    refused_count: int
    duplicate_count: int
    planted_count: int
    current_version_id: int | None
    created_at: datetime
    job: JobOut | None


class DataSetOut(DataSetSummary):
    """A data set and its import. counts: split → class → images, in the current version."""

    counts: dict[str, dict[str, int]]
    features: list[str] = Field(description="Backbones whose features of it are there.")
    report: ImportReport


class RefusalOut(BaseModel):
    """A file that was not imported, with the reason."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    path: str
    reason: str


class VersionOut(BaseModel):
    """A version of a data set. Counts are since the import, `changes` since its parent."""

    id: int
    number: int
    parent_id: int | None
    state: str
    note: str
    removed_count: int
    relabelled_count: int
    created_at: datetime
    changes: dict[str, int] = Field(
        description="removed, relabelled, returned: images that differ from the parent, by kind"
    )
    by: str | None = Field(description="Who made it.")
    review_id: int | None = Field(description="The review whose decisions it carries out.")
    cleansing_id: int | None


class VersionChangeOut(BaseModel):
    """An image that differs from the parent version. Its label is null where the image is out."""

    model_config = ConfigDict(from_attributes=True)
    image_id: int
    path: str
    thumbnail: str
    full: str
    split: str
    kind: str = Field(description="removed, relabelled, or returned: the parent left it out")
    label: int | None
    label_name: str | None
    new_label: int | None
    new_label_name: str | None
    by: str | None = Field(description="Who decided it, in the version's review.")
    at: datetime | None


class Planted(BaseModel):
    """Training images with planted label errors."""

    image_ids: list[int]
