"""The dependencies in pyproject.toml, and everything that installing them brings."""

import importlib.metadata
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
# An install without extras: the web's image.
WEB = [Requirement(line) for line in PROJECT["dependencies"]]
EVERYTHING = WEB + [
    Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines
]


def brought_by(asked: Iterable[Requirement]) -> set[str]:
    """The names of the packages that these bring, themselves among them."""
    waiting, seen = list(asked), set()
    while waiting:
        one = waiting.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        following = [Requirement(line) for line in importlib.metadata.requires(one.name) or []]
        waiting += [wanted for wanted in following if _applies(wanted, one.extras)]
    return {canonicalize_name(Requirement(line).name) for line in seen}


def _applies(wanted: Requirement, extras: set[str]) -> bool:
    return wanted.marker is None or any(
        wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)
    )
