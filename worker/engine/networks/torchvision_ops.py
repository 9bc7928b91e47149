"""Import this before torchvision.

The registry's torchvision wheel is compiled against CUDA. With a CPU-only torch its operators do
not load, and `import torchvision` stops at "operator torchvision::nms does not exist". Winnow uses
none of them, so declaring two schemas is enough. Where the real operators load, this module does
nothing.
"""

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
# The declarations live as long as this object.
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
