"""Settings from environment variables that start with WINNOW_."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend.core import addresses

LONGEST_SOCKET_PATH = 100  # bytes; Linux takes 107, other systems 103


class Settings(BaseSettings):
    """All settings; made at a process's start and passed on."""

    # An error must not print a password.
    model_config = SettingsConfigDict(env_prefix="WINNOW_", hide_input_in_errors=True)

    home: Path = Field(
        Path(".winnow"),
        description="Folder that holds all state: database, files, logs, broker socket.",
    )
    host: str = Field("127.0.0.1", description="Address that the web listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port that the web listens on.")
    public_url: Annotated[str, AfterValidator(addresses.check_public)] = Field(
        "", description="Address that people use, when it is not http://host:port (behind a proxy)."
    )
    database_url: Annotated[str, AfterValidator(addresses.check_database)] = Field(
        "",
        description="PostgreSQL's address, postgresql+psycopg://user@host:5432/name; "
        "empty means SQLite in the home folder.",
    )
    database_password: str = Field(
        "", description="Put into the address above, if it holds none; any characters will do."
    )
    broker_url: Annotated[str, AfterValidator(addresses.check_broker)] = Field(
        "",
        description="Redis' or Valkey's address, redis://host:6379/0; "
        "empty means the embedded broker's socket in the home folder.",
    )
    broker_password: str = Field(
        "", description="Put into the address above, if it holds none; any characters will do."
    )
    secure_cookies: bool = Field(
        False, description="Send the session cookie over HTTPS only; set it behind a TLS proxy."
    )
    session_days: int = Field(30, ge=1, description="Days until a login must be renewed.")
    import_folders: str = Field(
        "",
        description="Server-side folders that the page and the API may import from, "
        "separated by ':'. The CLI may import from anywhere.",
    )
    max_upload_bytes: int = Field(20 * 2**30, gt=0, description="Largest upload, in bytes.")
    max_request_bytes: int = Field(
        2 * 2**20, gt=0, description="Largest request that is no upload, in bytes."
    )
    max_bodies_bytes: int = Field(
        64 * 2**20,
        gt=0,
        description="Most bytes of such requests in memory, all senders together.",
    )
    web_processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes of the web, on one address; they share the limits of bodies and "
        "connections.",
    )
    max_connections: int = Field(
        1000, gt=0, description="Most open connections; then those idle longest are closed."
    )
    header_seconds: float = Field(
        20.0, gt=0, description="Seconds in which a request's headers must arrive."
    )
    body_seconds: float = Field(
        60.0,
        gt=0,
        description="Seconds that a client has to send a body or an upload's next part, "
        "or to accept an answer.",
    )
    max_unpacked_bytes: int = Field(
        60 * 2**30, gt=0, description="Most bytes that an archive may unpack to."
    )
    max_files: int = Field(2_000_000, gt=0, description="Most files in one import.")
    max_image_pixels: int = Field(
        50_000_000, gt=0, description="Largest image, in pixels (width × height)."
    )
    max_compression_ratio: int = Field(
        200, gt=1, description="Largest ratio of unpacked to packed bytes of one archive entry."
    )
    heartbeat_seconds: float = Field(
        1.0, gt=0, description="How often a running job reports that it is alive."
    )
    heartbeat_timeout_seconds: float = Field(
        20.0,
        gt=0,
        description="Silence after which a running job is taken for dead and queued again.",
    )
    sweep_seconds: float = Field(
        5.0, gt=0, description="How often queued jobs are sent again and dead ones looked for."
    )
    max_attempts: int = Field(
        5,
        ge=1,
        description="Attempts without progress after which a job is given up.",
    )
    scoring_memory_bytes: int = Field(
        2**30, gt=0, description="Memory budget of one scoring's replay, in bytes."
    )
    lane: Literal["all", "quick"] = Field(
        "all",
        description="Jobs that a worker takes: all, the quick ones first, or only quick ones "
        "(explanations, maps, small imports).",
    )
    quick_worker: bool = Field(
        True,
        description="Whether `winnow up` starts a second worker for quick jobs, which then never "
        "wait behind a training.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="What workers compute on: auto is a GPU where there is one."
    )
    networks: str = Field(
        "",
        description="Networks of your own that a run may use, each as package.module:function, "
        "separated by ','. "
        "Workers import and run them: name only code that you trust.",
    )

    @property
    def database(self) -> str:
        if not self.database_url:
            return f"sqlite:///{self.embedded_database}"
        return addresses.database_with(self.database_password, self.database_url)

    @property
    def embedded_database(self) -> Path:
        return self.home.resolve() / "winnow.db"

    @property
    def broker_socket(self) -> Path:
        """Return the embedded broker's socket: in the first folder whose path is short enough."""
        at_home = self.home.resolve() / "run" / "broker.sock"
        short = hashlib.sha256(os.fsencode(at_home)).hexdigest()[:16]
        elsewhere = Path(f"winnow-{os.geteuid()}-{short}", "broker.sock")
        in_temporary = Path(tempfile.gettempdir()) / elsewhere
        for path in (at_home, in_temporary):
            if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
                return path
        return Path("/tmp") / elsewhere  # noqa: S108, its folder is private to this account

    @property
    def broker(self) -> str:
        if not self.broker_url:
            return f"redis+socket://{self.broker_socket}"
        return addresses.broker_with(self.broker_password, self.broker_url)

    @property
    def files(self) -> Path:
        return self.home.resolve() / "files"

    @property
    def lanes(self) -> tuple[Literal["quick", "long"], ...]:
        """Return the lanes that a worker serves, in its order."""
        return ("quick", "long") if self.lane == "all" else ("quick",)

    @property
    def own_networks(self) -> list[str]:
        """List the user's networks, each as package.module:function."""
        return [part.strip() for part in self.networks.split(",") if part.strip()]

    @property
    def import_roots(self) -> list[Path]:
        """List the folders to import from, resolved."""
        return [Path(part).resolve() for part in self.import_folders.split(":") if part]
