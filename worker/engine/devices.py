"""Devices and bit-for-bit repetition (docs/method.md, section 4)."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from worker.engine.errors import EngineError

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str = "auto", recorded: dict[str, str] | None = None) -> torch.device:
    """Choose the device to compute on.

    Args:
        name: "cpu", "cuda" or "auto": the recorded run's, else a GPU if there is one.
        recorded: environment of a past run.

    Raises:
        EngineError: unknown or unavailable device.
    """
    if name not in DEVICES:
        raise EngineError(f"There is no device called {name!r}; choose from {', '.join(DEVICES)}.")
    if name == "auto":
        wanted = recorded["device"] if recorded else "cuda"
        # No error if the GPU is missing: code that needs exact steps reports it later.
        name = "cuda" if wanted == "cuda" and torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            'There is no GPU that this torch can use; choose the device "cpu", or install torch '
            "with CUDA."
        )
    return torch.device(name)


def environment(device: torch.device) -> dict[str, str]:
    """Describe what exact repetition depends on besides the recipe."""
    shared = {"torch": torch.__version__, "device": device.type}
    if device.type == "cuda":
        return shared | {
            "device_name": torch.cuda.get_device_name(device),
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
            "threads": str(torch.get_num_threads()),
        }
    return shared | {
        "device_name": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@contextmanager
def default_torch_modes() -> Iterator[None]:
    """Undo the caller's no_grad, inference_mode and autocast."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


@contextmanager
def deterministic(device: torch.device, threads: int) -> Iterator[None]:
    """Make computations repeat bit for bit."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)  # sums are split by thread
    try:
        if device.type == "cuda":
            with _deterministic_gpu():
                yield
        else:
            yield
    finally:
        torch.set_num_threads(threads_before)


@contextmanager
def _deterministic_gpu() -> Iterator[None]:
    # cuBLAS reads this at the first product.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    # TF32 products would differ from their derivative; torch's types lack these names.
    backends = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]
    deterministic = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    flags, precisions = (
        (cudnn.benchmark, cudnn.deterministic),
        [backend.fp32_precision for backend in backends],
    )
    torch.use_deterministic_algorithms(True)
    cudnn.benchmark, cudnn.deterministic = False, True
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, precisions, strict=True):
            backend.fp32_precision = precision
        cudnn.benchmark, cudnn.deterministic = flags
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
