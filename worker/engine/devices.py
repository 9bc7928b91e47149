"""Where tensors live, and what makes a computation there repeat bit for bit (influence.md, section 4)."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from worker.engine.errors import EngineError

DEVICES = ("auto", "cpu", "cuda")


def choose(asked: str = "auto", recorded: dict[str, str] | None = None) -> torch.device:
    """The device to use. recorded: the environment of the run in question; "auto" means its device, or for a new run a GPU where there is one.

    Raises EngineError for a device that is unknown or not here.
    """
    if asked not in DEVICES:
        raise EngineError(f"There is no device called {asked!r}; there are {', '.join(DEVICES)}.")
    if asked == "auto":
        wanted = recorded["device"] if recorded else "cuda"
        # A run of a GPU that is looked at on another machine: what needs its exact steps will say so.
        asked = "cuda" if wanted == "cuda" and torch.cuda.is_available() else "cpu"
    if asked == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            'There is no GPU that this torch can use; choose the device "cpu", or install a torch with CUDA.'
        )
    return torch.device(asked)


def environment(device: torch.device) -> dict[str, str]:
    """What bit-for-bit repetition hangs on besides the recipe."""
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
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@contextmanager
def ordinary_modes() -> Iterator[None]:
    """Within (or in a function that it decorates), torch computes as usual, whatever mode the caller has it in: no_grad, inference_mode, autocast."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


@contextmanager
def exact(device: torch.device, threads: int) -> Iterator[None]:
    """Within, the same computation gives the same bits: sums are split by thread, and a GPU uses deterministic algorithms and no TF32."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
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
    # cuBLAS reads it when it makes its workspace, which is at the first product.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    # Products rounded to TF32 are good enough for training, and differ from what the retracing takes for the derivative.
    products = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]  # torch declares these at run time
    deterministic = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    flags, precisions = (
        (cudnn.benchmark, cudnn.deterministic),
        [product.fp32_precision for product in products],
    )
    torch.use_deterministic_algorithms(True)
    cudnn.benchmark, cudnn.deterministic = False, True
    for product in products:
        product.fp32_precision = "ieee"
    try:
        yield
    finally:
        for product, precision in zip(products, precisions, strict=True):
            product.fp32_precision = precision
        cudnn.benchmark, cudnn.deterministic = flags
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
