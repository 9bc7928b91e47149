"""The home folder: for this account alone, as it holds names, images and hashes of logins."""

import logging
from pathlib import Path

from backend.core.settings import Settings

logger = logging.getLogger(__name__)

DATABASE_FILES = ("winnow.db", "winnow.db-wal", "winnow.db-shm")


def make_private(settings: Settings) -> None:
    """Make the folder and its database unreadable for other accounts, also if made before."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    _set_mode(settings.home, 0o700)
    for name in DATABASE_FILES:
        if (path := settings.home / name).exists():
            _set_mode(path, 0o600)


def _set_mode(path: Path, mode: int) -> None:
    if path.stat().st_mode & 0o777 & ~mode == 0:
        return
    try:
        path.chmod(mode)
    except OSError as error:  # another account's, such as a mounted volume
        logger.warning("Other accounts may read %s: %s", path, error)
