"""Code, docs and pins agree, and parts import only what they may."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from cogapp import Cog
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from backend.core import catalogue, queue
from backend.core.job_kinds import KINDS
from backend.core.settings import Settings
from backend.main import FEATURES
from backend.runs import schemas
from tests import documented
from tests.packages import EVERYTHING, brought_by

ROOT = Path(__file__).parents[1]
PROSE = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "worker" / "engine" / "README.md",
]
CODE = sorted(
    path
    for part in ("backend", "worker", "frontend")
    for path in (ROOT / part).rglob("*")
    if path.suffix in (".py", ".html", ".js")
)
# Read by the tests and the benchmarks, not by Winnow.
NOT_SETTINGS = {"WINNOW_CHROMIUM", "WINNOW_REAL_DATA"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def run_python(program: str, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ── the parts ─────────────────────────────────────────────────────────────────────────────────────


def test_the_worker_registers_exactly_the_task_that_the_web_sends() -> None:
    import worker.tasks

    registered = {name for name in worker.tasks.celery_app.tasks if not name.startswith("celery.")}
    assert registered == {queue.PERFORM}


@pytest.mark.slow
def test_every_job_kind_has_a_pipeline() -> None:
    program = "import importlib\n" + "\n".join(
        f"assert callable(getattr(importlib.import_module({module!r}), {function!r}))"
        for module, _, function in (kind.pipeline.partition(":") for kind in KINDS.values())
    )
    run_python(program)


@pytest.mark.slow
def test_the_web_and_the_command_line_load_neither_torch_nor_the_worker() -> None:
    heavy = ("torch", "torchvision", "sklearn", "scipy", "worker")
    loaded = f"print(*[name for name in {heavy} if name in sys.modules])"
    assert run_python(f"import sys, backend.main, backend.cli; {loaded}").strip() == ""


@pytest.mark.slow
def test_the_engine_loads_none_of_the_application() -> None:
    foreign = (
        "sqlalchemy",
        "alembic",
        "celery",
        "kombu",
        "fastapi",
        "starlette",
        "pydantic",
        "redis",
        "jinja2",
    )
    loaded = (
        f"print(*[name for name in sys.modules if name in {foreign} or name.startswith('backend')])"
    )
    said = run_python(f"import sys, worker.engine; {loaded}").split()
    assert said == ["backend", "backend.core", "backend.core.catalogue"]


def test_the_rule_between_features_names_every_feature() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    (named,) = [rule["modules"] for rule in rules if rule["type"] == "independence"]
    assert set(named) == {feature.__name__ for feature in FEATURES}


def test_every_method_of_the_catalogue_has_its_file_and_every_file_its_method() -> None:
    from worker import engine

    folder = ROOT / "worker" / "engine" / "scores"
    files = {path.stem for path in folder.glob("*.py") if "\nMETHOD = " in path.read_text()}
    assert files == set(catalogue.METHODS)
    for name, facts in catalogue.METHODS.items():
        method = engine.METHODS[name]
        assert vars(facts).items() <= vars(method).items(), name
        assert method.run.__module__ == f"worker.engine.scores.{name}"


def test_every_choice_of_the_catalogue_makes_a_recipe() -> None:
    from worker import engine

    # Other tests bring networks of their own.
    known = {name for name, choice in engine.NETWORKS.items() if not choice.own}
    assert known == set(catalogue.NETWORKS)
    fixed: dict[str, Any] = {"classes": 2, "channels": 1, "height": 16, "width": 16}
    fixed |= {"network": "mnist", "mean": (0.5,), "std": (0.5,)}
    for setting, choices in (
        ("optimizer", catalogue.OPTIMIZERS),
        ("trained", catalogue.TRAINED),
        ("precision", catalogue.PRECISIONS),
        ("schedule", catalogue.SCHEDULES),
        ("augmentation", catalogue.AUGMENTATIONS),
    ):
        for choice in choices:
            assert engine.Recipe(**fixed, **{setting: choice})


A_METHOD = """\
from worker.engine.scores.cost import ImagePasses
from worker.engine.scores.method import ScoresAndReport, attach

METHOD = attach(
    "shouting",
    lambda asked: ScoresAndReport(-asked.replay.training.margins, {}),
    lambda _: ImagePasses(),
)
"""
A_METHODS_FACTS = """\
    "shouting": Method(
        called="Shouting",
        title="Shouted at",
        because="the model shouted at it",
        meaning="The model was surest of this image.",
        needs="nothing",
    ),
"""
A_NETWORKS_FACTS = """\
    "tiny_phone": Network(
        meaning="For very small telephones.", family="mobilenet", body="mobilenet_v3_small"
    ),
"""
USED_EVERYWHERE = """
import pathlib, tempfile
import numpy as np
from backend.main import create_app
from backend.core.catalogue import METHODS
from backend.core.settings import Settings
from backend.review.queue.orderings import Order
from backend.runs.schemas import RunOptions, ScoringOptions
from worker.engine import Images, default_recipe, score, train

assert ScoringOptions(method="shouting").method == "shouting"
assert RunOptions(network="tiny_phone").recipe() == {"network": "tiny_phone"}
folder = pathlib.Path(tempfile.mkdtemp())
text = str(create_app(Settings(home=folder / "home")).openapi())
assert "shouting" in text and "tiny_phone" in text
pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
images = Images(pixels, np.arange(6) % 2, np.arange(6))
recipe = default_recipe(images, 2, network="tiny_phone", epochs=1)
scores = score(train(recipe, images, images, folder / "run"), images, images, "shouting")
assert scores.values.shape == (6,)
"""


@pytest.mark.slow
def test_a_method_takes_two_files_and_a_network_one(tmp_path: Path) -> None:
    for part in ("backend", "worker", "frontend"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    facts = tmp_path / "backend" / "core" / "catalogue.py"
    text = facts.read_text()
    for start, more in (
        ("METHODS: dict[str, Method] = {\n", A_METHODS_FACTS),
        ("NETWORKS: dict[str, Network] = {\n", A_NETWORKS_FACTS),
    ):
        assert start in text
        text = text.replace(start, start + more)
    facts.write_text(text)
    (tmp_path / "worker" / "engine" / "scores" / "shouting.py").write_text(A_METHOD)
    run_python(USED_EVERYWHERE, tmp_path)


@pytest.mark.parametrize(
    ("shape", "field", "choices"),
    [
        (schemas.RunOptions, "network", catalogue.NETWORKS),
        (schemas.RunOptions, "optimizer", catalogue.OPTIMIZERS),
        (schemas.RunOptions, "trained", catalogue.TRAINED),
        (schemas.RunOptions, "precision", catalogue.PRECISIONS),
        (schemas.RunOptions, "schedule", catalogue.SCHEDULES),
        (schemas.RunOptions, "augmentation", catalogue.AUGMENTATIONS),
        (schemas.ScoringOptions, "method", catalogue.METHODS),
        (schemas.ScoringOptions, "span", catalogue.SPANS),
    ],
)
def test_the_api_takes_exactly_what_the_catalogue_has(
    shape: Any, field: str, choices: dict[str, Any]
) -> None:
    assert words_of(shape.model_fields[field].annotation) == set(choices)


def words_of(annotation: Any) -> set[str]:
    """The strings of a Literal, wherever it stands in the annotation."""
    parts = get_args(annotation)
    return {part for part in parts if isinstance(part, str)} | {
        word for part in parts for word in words_of(part)
    }


# ── the docs ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(("file", "table"), documented.TABLES)
def test_a_table_in_the_docs_is_what_the_code_says(file: str, table: Callable[[], str]) -> None:
    assert f"\n\n{table()}\n\n" in (ROOT / "docs" / file).read_text(), "make docs writes it"


def test_make_docs_would_change_nothing() -> None:
    files = sorted(map(str, (ROOT / "docs").glob("*.md")))
    assert Cog().main(["cog", "--check", "--verbosity=1", *files]) == 0


def test_every_setting_that_is_named_anywhere_exists() -> None:
    known = {f"WINNOW_{name.upper()}" for name in Settings.model_fields} | NOT_SETTINGS
    for path in [
        *PROSE,
        *CODE,
        ROOT / "Makefile",
        ROOT / ".env.example",
        ROOT / "docker-compose.yml",
    ]:
        named = set(re.findall(r"\bWINNOW_[A-Z][A-Z_]*[A-Z]\b", path.read_text()))
        assert named <= known, f"{name_of(path)} names {named - known}"


def test_every_setting_says_what_it_does() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_command_that_the_docs_name_exists() -> None:
    known = [usage.split()[1:] for usage, _ in documented.commands()]
    words = {tuple(part for part in command if part.islower() or "-" in part) for command in known}
    for path in PROSE:
        for line in re.findall(
            r"(?:`|\n|bin/|web |\()winnow ((?:[a-z-]+ ?){1,2})", path.read_text()
        ):
            first, *second = line.split()
            assert any(
                command[0] == first and (len(command) == 1 or command[1:] == tuple(second))
                for command in words
            ), f"{name_of(path)}: winnow {line}"


def test_every_make_target_that_the_docs_name_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in PROSE:
        named = set(re.findall(r"(?:`|\n)make ([a-z]+)", path.read_text()))
        assert named <= targets, f"{name_of(path)} names make {named - targets}"


def test_every_link_between_documents_leads_somewhere() -> None:
    broken = [
        f"{name_of(path)} → {link}"
        for path in PROSE
        for link in links_of(path)
        if not (path.parent / link).exists()
    ]
    assert broken == []


def links_of(path: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not re.match(r"[a-z]+:|#", link):
            yield link.partition("#")[0]


def test_decisions_are_numbered_without_a_gap_and_listed_with_title_status_and_date() -> None:
    folder = ROOT / "docs" / "decisions"
    rows = re.findall(
        r"^\| (\d+) \| (.+) \| (.+) \| ([\d-]+) \|$",
        (folder / "README.md").read_text(),
        re.MULTILINE,
    )
    assert [int(number) for number, *_ in rows] == list(range(1, len(rows) + 1))
    listed = {number: row for number, *row in rows if "../notes/" not in row[0]}
    files = sorted(folder.glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in files] == [int(number) for number in listed]
    for path in files:
        number, title, status, date = re.match(
            r"# (\d+)\. (.+)\n\nStatus: (.+) · Date: (\d{4}-\d\d-\d\d)\n\n## Context\n",
            path.read_text(),
        ).groups()  # type: ignore[union-attr]  # the shape is the test
        assert listed[number] == [f"[{title}]({path.name})", status, date], name_of(path)


# ── the API ───────────────────────────────────────────────────────────────────────────────────────


def test_every_api_route_is_in_the_document_with_a_summary_and_a_description() -> None:
    for path, method, operation in documented.routes():
        assert path.startswith("/api/v1/"), path
        assert operation.get("description"), f"{method} {path} has no docstring"
        # FastAPI makes a summary up from the function's name where none is given.
        made_up = operation["operationId"].partition("_api_v1")[0].replace("_", " ").title()
        assert operation["summary"] != made_up, f"{method} {path} has no summary"


def test_every_api_route_belongs_to_a_feature_and_is_in_the_document() -> None:
    features = {"accounts", "data sets", "runs", "review", "cleansing", "jobs"}
    assert {tag for _, _, operation in documented.routes() for tag in operation["tags"]} == features
    routes = [route for feature in FEATURES for route in feature.api.router.routes]
    assert all(route.include_in_schema for route in routes)
    assert sum(len(route.methods) for route in routes) == len(list(documented.routes()))


# ── the packages ──────────────────────────────────────────────────────────────────────────────────


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines if line and line[0] != "#")
    }


def dependency_lines() -> dict[str, tuple[str, str, str]]:
    """Package → (version, licence, why), from docs/dependencies.md."""
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$",
        (ROOT / "docs" / "dependencies.md").read_text(),
        re.MULTILINE,
    )
    return {name: (version, licence, why) for name, version, licence, why in rows}


@pytest.mark.parametrize("wanted", EVERYTHING, ids=lambda wanted: wanted.name)
def test_a_dependency_is_pinned_and_documented_with_its_licence_and_a_reason(
    wanted: Requirement,
) -> None:
    (exact,) = wanted.specifier
    assert exact.operator == "=="
    assert pins()[canonicalize_name(wanted.name)] == exact.version
    name = f"{wanted.name}[{','.join(wanted.extras)}]" if wanted.extras else wanted.name
    version, licence, why = dependency_lines()[name]
    assert version == exact.version
    assert why.endswith(".")
    metadata = importlib.metadata.metadata(wanted.name)
    said = " ".join(
        [
            metadata.get("License-Expression") or metadata.get("License") or "",
            *metadata.get_all("Classifier", []),
        ]
    )
    # Some name their licence nowhere but in the file itself.
    said += "".join(
        path.read_text()[:100]
        for path in importlib.metadata.files(wanted.name) or []
        if path.name == "LICENSE"
    )
    # A licence begins with letters, so this matches.
    assert re.match(r"[A-Z]+[a-z]*", licence)[0] in said, f"the package says {said[:200]}"  # type: ignore[index]


def test_every_package_that_is_installed_with_them_is_pinned() -> None:
    assert brought_by(EVERYTHING) - set(pins()) == set()


def test_vendored_scripts_carry_version_and_licence_and_are_documented() -> None:
    folder = ROOT / "frontend" / "static" / "js" / "vendor"
    scripts = sorted(folder.glob("*.js"))
    assert scripts
    text = (ROOT / "docs" / "dependencies.md").read_text()
    for script in scripts:
        # mypy expects None; the match is part of the test.
        name, version = re.match(r"([a-z]+)-(\d+\.\d+\.\d+)\.", script.name).groups()  # type: ignore[union-attr]
        assert (folder / f"{name}-{version}.LICENSE").read_text().strip()
        assert f"| {version} |" in text, script.name


# ── the pages ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path", sorted((ROOT / "frontend" / "templates").rglob("*.html")), ids=name_of
)
def test_a_template_has_nothing_inline_that_the_security_policy_forbids(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"<style\b|\sstyle\s*=|javascript:", text, re.IGNORECASE) == []
    assert re.findall(r"<[^>]*\son[a-z]+\s*=", text, re.IGNORECASE) == []
    scripts = re.findall(r"<script\b([^>]*)>", text, re.IGNORECASE)
    assert [
        attributes
        for attributes in scripts
        if "src=" not in attributes and 'type="application/json"' not in attributes
    ] == []
    assert (
        re.findall(r"""(?:src|href)=["'](?:https?:)?//""", text) == []
    )  # nothing from another host
    assert "|safe" not in text.replace(" ", "")
