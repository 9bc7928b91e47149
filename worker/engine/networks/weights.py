"""Weight files (safetensors) that a training starts from, by SHA-256.

A last layer that is missing or of another shape starts from the seed.
"""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from worker.engine import whole_files
from worker.engine.errors import EngineError

Tensors = dict[str, torch.Tensor]

# Files by SHA-256, and folders of <SHA-256>.safetensors.
_files: dict[str, Path] = {}
_folders: list[Path] = []


def register_weights(path: Path | str) -> str:
    """Register a file of weights; return its SHA-256 for `Recipe.weights`.

    Raises:
        EngineError: unreadable file.
    """
    path = Path(path)
    content = _read_content(path)
    _parse(content, path.name)
    digest = hashlib.sha256(content).hexdigest()
    _files[digest] = path
    return digest


def use_weights_folder(folder: Path | str) -> None:
    """Search `folder` too, for <SHA-256>.safetensors."""
    folder = Path(folder)
    if folder not in _folders:
        _folders.append(folder)


def keep_weights(tensors: Tensors, folder: Path | str) -> str:
    """Write tensors into a folder of weights; return the file's SHA-256.

    Raises:
        EngineError: the folder is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise EngineError(f"{folder.name} is a file; name a folder to keep weights in.")
    content = save(
        {
            name: tensors[name].detach().cpu().clone(memory_format=torch.contiguous_format)
            for name in sorted(tensors)
        }
    )
    digest = hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    whole_files.write_whole(folder / f"{digest}.safetensors", content)
    use_weights_folder(folder)
    return digest


def read_weights(digest: str) -> Tensors:
    """Read the tensors of a registered file.

    Raises:
        EngineError: unknown or changed file.
    """
    path = _files.get(digest) or next(
        (file for folder in _folders if (file := folder / f"{digest}.safetensors").exists()), None
    )
    if path is None:
        raise EngineError(
            f"The weights {digest[:12]}… that this training starts from are not here; put their "
            "file into the folder of weights under its name, or register it again."
        )
    content = _read_content(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise EngineError(
            f"The file of weights {path.name} has changed since the training was set up; restore "
            "it."
        )
    return _parse(content, path.name)


def load_weights(module: nn.Module, tensors: Tensors, head: str | None) -> None:
    """Copy tensors into a module by name.

    Args:
        head: name of the layer that need not fit.

    Raises:
        EngineError: other names or shapes do not fit.
    """
    own = module.state_dict()
    optional = {f"{head}.weight", f"{head}.bias"} if head else set()
    fitting = {
        name: value
        for name, value in tensors.items()
        if name in own and own[name].shape == value.shape
    }
    # The counter serves training with batch statistics only.
    missing = [
        name
        for name in own
        if name not in fitting and name not in optional and not name.endswith("num_batches_tracked")
    ]
    unknown = [name for name in tensors if name not in own]
    if missing or unknown:
        raise EngineError(
            "The weights do not fit the network: "
            f"{_list_names(missing, 'missing or of another shape')}"
            f"{_list_names(unknown, 'unknown')}choose the network that they were made for."
        )
    module.load_state_dict(fitting, strict=False)


def _list_names(names: list[str], problem: str) -> str:
    return (
        f"{problem}: {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}; "
        if names
        else ""
    )


def _read_content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EngineError(
            f"The file of weights {path.name} cannot be read: {error.strerror}."
        ) from error


def _parse(content: bytes, name: str) -> Tensors:
    try:
        return load(content)
    except SafetensorError as error:
        raise EngineError(
            f"{name} is no safetensors file; convert the weights to that format first."
        ) from error
