"""The Dockerfile and the compose file against the program: names exist, promises hold."""

import importlib.metadata
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from packaging.utils import canonicalize_name

from backend.cli import app
from backend.core.settings import Settings
from tests.packages import WEB, brought_by

ROOT = Path(__file__).parents[1]
WINNOWS = ("web", "worker", "worker-gpu", "migrate")
REQUIRED = re.compile(r"\$\{(\w+):\?([^}]*)\}")


@dataclass
class Stage:
    """A `FROM` of the Dockerfile, with its instructions as (word, rest)."""

    name: str
    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for found, rest in self.lines if found == word]


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    found: dict[str, Stage] = {}
    for line in (line for line in text.splitlines() if line.strip() and not line.startswith("#")):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = Stage(name, base)
        elif found:
            list(found.values())[-1].lines.append((word, " ".join(rest.split())))
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """The stage, and those it is made from or copies from."""
    stage = stages[name]
    sources = [stage.base, *re.findall(r"--from=(\S+)", " ".join(stage.all("COPY")))]
    return [
        stage,
        *(one for source in sources if source in stages for one in lineage(stages, source)),
    ]


def is_a_command(words: list[str]) -> bool:
    """Return True if `winnow` has this command and its options."""
    command: Any = typer.main.get_command(app)
    for word in words[1:]:
        if word.startswith("--"):
            assert any(word in parameter.opts for parameter in command.params), (
                f"{' '.join(words)}: no option {word}"
            )
        else:
            assert word in command.commands, f"winnow has no command {word}"
            command = command.commands[word]
    return words[0] == "winnow"


# ── Dockerfile ────────────────────────────────────────────────────────────────────────────────────


def test_there_is_an_image_for_the_web_and_for_workers_with_and_without_a_gpu(
    stages: dict[str, Stage],
) -> None:
    assert {"web", "worker", "worker-gpu"} <= set(stages)
    assert list(stages)[-1] == "web"  # the target of a plain `docker build .`


@pytest.mark.parametrize("image", ["web", "worker", "worker-gpu"])
def test_no_image_runs_as_root_or_holds_what_built_it(stages: dict[str, Stage], image: str) -> None:
    made = stages[image]
    runtime = stages[made.base]
    (user,) = runtime.all("USER") + made.all("USER")
    assert int(user.split(":")[0]) >= 1000
    assert runtime.lines[-1][0] == "USER"  # nothing runs as root after it
    assert made.all("RUN") == []
    assert made.all("COPY") == [f"--from={image}-code /opt/winnow /opt/winnow"]


def test_the_webs_image_never_installs_the_workers_extra(stages: dict[str, Stage]) -> None:
    web = " ".join(rest for stage in lineage(stages, "web") for _, rest in stage.lines)
    assert "[worker]" not in web
    assert "torch" not in web
    assert (
        "COPY worker"
        not in (ROOT / "Dockerfile").read_text().split("AS web-code")[1].split("FROM")[0]
    )


@pytest.mark.parametrize("image", ["worker", "worker-gpu"])
def test_a_workers_image_installs_the_workers_extra(stages: dict[str, Stage], image: str) -> None:
    made = lineage(stages, image)
    assert any('".[worker]"' in rest for stage in made for rest in stage.all("RUN"))
    assert any("worker worker" in stage.all("COPY") for stage in made)
    takes_cpu_index = any("TORCH_INDEX" in rest for stage in made for rest in stage.all("RUN"))
    assert takes_cpu_index == (image == "worker")


def test_every_package_is_pinned_by_the_constraints(stages: dict[str, Stage]) -> None:
    installs = [
        rest for stage in stages.values() for rest in stage.all("RUN") if "pip install" in rest
    ]
    assert len(installs) >= 6
    assert all("--constraint constraints.txt" in rest or "--no-deps" in rest for rest in installs)


def test_the_base_image_is_the_python_that_ci_runs_and_a_slim_one(stages: dict[str, Stage]) -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=3\.\d+-slim-bookworm$", text, re.MULTILINE)
    assert {stage.base for stage in stages.values() if stage.base not in stages} == {
        "python:${PYTHON}"
    }


@pytest.mark.parametrize("image", ["web", "worker", "worker-gpu"])
def test_the_images_start_and_check_themselves_with_commands_that_exist(
    stages: dict[str, Stage], image: str
) -> None:
    (start,) = stages[image].all("CMD")
    assert is_a_command(json.loads(start))
    (health,) = stages[image].all("HEALTHCHECK")
    assert is_a_command(json.loads(health.partition(" CMD ")[2]))


def test_what_the_dockerfile_copies_exists_and_reaches_the_build(stages: dict[str, Stage]) -> None:
    copied = {
        name
        for stage in stages.values()
        for rest in stage.all("COPY")
        if "--from" not in rest
        for name in rest.split()[:-1]
    }
    sent = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
    assert (
        "*" in (ROOT / ".dockerignore").read_text().splitlines()
    )  # nothing else does: no .git, no .env, no state


# Hides packages as if uninstalled, then loads all that web and commands may load.
AS_IN_THE_IMAGE = """
import json, sys
hidden = set(json.loads(sys.argv[1]))
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
import backend.main, backend.cli, backend.web.exports, backend.migrations.revise
import kombu.transport.redis, psycopg
from pathlib import Path
from backend.core.settings import Settings
from tests.packages import WEB, brought_by
backend.main.create_app(Settings(home=Path(sys.argv[2])))
print("all there")
"""


def test_the_web_needs_no_package_that_its_image_lacks(tmp_path: Path) -> None:
    """Web and commands load only pyproject's own dependencies and theirs."""
    brought = brought_by(WEB) | {"winnow"}
    homes = importlib.metadata.packages_distributions()
    hidden = [
        module
        for module, names in homes.items()
        if not {canonicalize_name(name) for name in names} & brought
    ]
    assert {"torch", "numpy", "pytest"} <= set(hidden)
    command = [
        sys.executable,
        "-c",
        AS_IN_THE_IMAGE,
        json.dumps([*hidden, "worker"]),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "all there\n", done.stderr


# ── docker-compose.yml ────────────────────────────────────────────────────────────────────────────


def test_the_services_are_those_that_the_readme_promises(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"web", "worker", "worker-gpu", "migrate", "postgres", "redis"}
    assert services["worker-gpu"]["profiles"] == ["gpu"]
    assert all("profiles" not in services[name] for name in services if name != "worker-gpu")
    (device,) = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert "gpu" in device["capabilities"]


def test_only_the_webs_port_is_published_and_only_to_this_machine_unless_told_otherwise(
    compose: dict[str, Any],
) -> None:
    published = {
        name: service["ports"]
        for name, service in compose["services"].items()
        if "ports" in service
    }
    assert published == {"web": ["${WEB_ADDRESS:-127.0.0.1}:${WEB_PORT:-8000}:8000"]}
    assert all(service.get("network_mode") is None for service in compose["services"].values())


def test_nothing_but_the_web_reaches_the_world(compose: dict[str, Any]) -> None:
    assert compose["networks"]["inside"] == {"internal": True}
    assert compose["services"]["web"]["networks"] == ["inside", "outside"]
    assert all(
        service["networks"] == ["inside"]
        for name, service in compose["services"].items()
        if name != "web"
    )


def test_every_secret_is_required_with_a_sentence_and_none_has_a_default(
    compose: dict[str, Any],
) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    required = REQUIRED.findall(text)
    assert {name for name, _ in required} == {"POSTGRES_PASSWORD", "REDIS_PASSWORD"}
    assert all(sentence.startswith(f"Set {name} in .env") for name, sentence in required)
    optional = set(re.findall(r"\$\{(\w+)", text)) - {name for name, _ in required}
    assert not [name for name in optional if re.search("SECRET|PASSWORD|TOKEN|KEY", name)]


def test_the_example_names_every_variable_of_the_compose_file_and_no_secret(
    compose: dict[str, Any],
) -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    example = dict(
        re.findall(r"^#? ?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    )
    assert used <= set(example)
    assert all(
        example[name] == ""
        for name, _ in REQUIRED.findall((ROOT / "docker-compose.yml").read_text())
    )
    known = {f"WINNOW_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in example if name.startswith("WINNOW_")} <= known


@pytest.mark.parametrize("name", WINNOWS)
def test_our_services_are_built_from_stages_that_exist_and_run_commands_that_exist(
    compose: dict[str, Any], stages: dict[str, Stage], name: str
) -> None:
    service = compose["services"][name]
    assert service["build"]["target"] in stages
    assert service["image"] == f"winnow-{service['build']['target']}"
    assert is_a_command(service["command"])
    known = {f"WINNOW_{field.upper()}" for field in Settings.model_fields}
    assert set(service["environment"]) <= known
    assert service["cap_drop"] == ["ALL"]


def test_every_server_has_a_health_check(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        check = service["healthcheck"]
        if name == "migrate":
            assert check == {"disable": True}
            continue
        kind, *words = check["test"]
        assert kind in ("CMD", "CMD-SHELL")
        if name in WINNOWS:
            assert is_a_command(words)


def test_what_depends_waits_until_servers_are_healthy_and_the_schema_is_there(
    compose: dict[str, Any],
) -> None:
    for name in ("web", "worker", "worker-gpu"):
        assert compose["services"][name]["depends_on"] == {
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }
    migrate = compose["services"]["migrate"]
    assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert migrate["restart"] == "no"


def test_state_lies_in_named_volumes(compose: dict[str, Any]) -> None:
    assert set(compose["volumes"]) == {"state", "database"}
    for name in WINNOWS:
        assert "state:/data" in compose["services"][name]["volumes"]
        assert compose["services"][name]["environment"]["WINNOW_HOME"] == "/data"
    assert compose["services"]["postgres"]["volumes"] == ["database:/var/lib/postgresql/data"]


def test_the_addresses_of_the_servers_are_those_of_the_services(compose: dict[str, Any]) -> None:
    environment = compose["services"]["web"]["environment"]
    filled = {name: REQUIRED.sub("secret", value) for name, value in environment.items()}
    assert (
        filled["WINNOW_DATABASE_URL"] == "postgresql+psycopg://winnow:secret@postgres:5432/winnow"
    )
    assert filled["WINNOW_BROKER_URL"] == "redis://:secret@redis:6379/0"
    postgres = compose["services"]["postgres"]["environment"]
    assert (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]) == ("winnow", "winnow")
    assert all(
        "build" in service or re.fullmatch(r"[a-z]+:[\w.]+-bookworm", service["image"])
        for service in compose["services"].values()
    )
