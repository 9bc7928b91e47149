"""Files of weights that a training starts from. A recipe names one by its SHA-256, so the file is part of what fixes the run.

Files are safetensors: nothing is unpickled. A name in a file is that of the network's parameter or buffer; for torchvision's networks these
are torchvision's names. The last layer's tensors may be missing or have another shape: that layer then starts from the recipe's seed.
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

# Where each file that this process was told of lies, by its SHA-256; and folders of files called <SHA-256>.safetensors.
_files: dict[str, Path] = {}
_folders: list[Path] = []


def register_weights(path: Path | str) -> str:
    """Make a file of weights known; returns its SHA-256, for `Recipe.weights`. Raises EngineError where it cannot be read."""
    path = Path(path)
    content = _content(path)
    _parsed(content, path.name)
    digest = hashlib.sha256(content).hexdigest()
    _files[digest] = path
    return digest


def use_weights_folder(folder: Path | str) -> None:
    """Look for weights in `folder` too, under the name <SHA-256>.safetensors."""
    folder = Path(folder)
    if folder not in _folders:
        _folders.append(folder)


def keep_weights(tensors: Tensors, folder: Path | str) -> str:
    """Write tensors into a folder of weights, under the name of their content; returns the SHA-256. Raises EngineError where it is a file."""
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
    """The tensors of a known file. Raises EngineError where it is unknown, or no longer what it was."""
    path = _files.get(digest) or next(
        (file for folder in _folders if (file := folder / f"{digest}.safetensors").exists()), None
    )
    if path is None:
        raise EngineError(
            f"The weights {digest[:12]}… that this training starts from are not here; put their file into the folder of weights "
            "under its name, or register it again."
        )
    content = _content(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise EngineError(
            f"The file of weights {path.name} has changed since the training was set up; restore it."
        )
    return _parsed(content, path.name)


def load_weights(module: nn.Module, tensors: Tensors, head: str | None) -> None:
    """Copy tensors into a module under their names. head: name of the last linear layer, which keeps its own values where the file's do not fit.

    Raises EngineError where names or shapes do not fit.
    """
    own = module.state_dict()
    free = {f"{head}.weight", f"{head}.bias"} if head else set()
    fitting = {
        name: value
        for name, value in tensors.items()
        if name in own and own[name].shape == value.shape
    }
    # A counter that only training in batch statistics would need.
    missing = [
        name
        for name in own
        if name not in fitting and name not in free and not name.endswith("num_batches_tracked")
    ]
    foreign = [name for name in tensors if name not in own]
    if missing or foreign:
        raise EngineError(
            f"The weights do not fit the network: {_some(missing, 'missing or of another shape')}{_some(foreign, 'unknown')}"
            "choose the network that they were made for."
        )
    module.load_state_dict(fitting, strict=False)


def _some(names: list[str], what: str) -> str:
    return (
        f"{what}: {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}; "
        if names
        else ""
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EngineError(
            f"The file of weights {path.name} cannot be read: {error.strerror}."
        ) from error


def _parsed(content: bytes, name: str) -> Tensors:
    try:
        return load(content)
    except SafetensorError as error:
        raise EngineError(
            f"{name} is no safetensors file; convert the weights to that format first."
        ) from error
