"""Devices, and computation that repeats bit for bit (docs/method.md, section 4)."""

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
        name: "cpu", "cuda", or "auto" for the device of the recorded run; for a new run a GPU where
            there is one.
        recorded: the environment of the run in question.

    Raises:
        EngineError: the device is unknown or not available here.
    """
    if name not in DEVICES:
        raise EngineError(f"There is no device called {name!r}; choose from {', '.join(DEVICES)}.")
    if name == "auto":
        wanted = recorded["device"] if recorded else "cuda"
        # A GPU run on a machine without a GPU: whatever needs exact steps reports it later.
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
    """Undo the caller's no_grad, inference_mode and autocast within this context."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


@contextmanager
def deterministic(device: torch.device, threads: int) -> Iterator[None]:
    """Make computations repeat bit for bit within this context."""
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
    # cuBLAS reads this when it allocates its workspace, at the first product.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    # TF32 is precise enough for training, but differs from the derivative in the retracing.
    backends = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]  # torch declares these at run time
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
