"""Let torchvision be imported next to a CPU-only torch; import this first.

The wheel is compiled for CUDA. Where its operators do not load, its import fails with "operator
torchvision::nms does not exist" unless their schemas are declared.
"""

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
# Keeps the declarations alive.
_declared: list[torch.library.Library] = []


def _operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return hasattr(torch.ops.torchvision, "nms")
    return False


if not _operators_load():
    _library = torch.library.Library("torchvision", "DEF")
    for _schema in _SCHEMAS.values():
        _library.define(_schema)
    _declared.append(_library)
