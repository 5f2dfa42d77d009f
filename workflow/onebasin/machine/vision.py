"""torchvision, importable beside any build of torch: `from onebasin.machine.vision import torchvision`.

The torchvision that pip installs is linked against CUDA. Beside a CPU-only torch its compiled operators cannot be
loaded, and then its import fails, since it describes two of them (`nms`, `qnms`) that nobody has declared. Data sets,
transforms and models need neither, so it is enough to declare the two, without kernels. A torchvision that loads its
operators is left alone. Everything in this package imports torchvision from here.
"""

import importlib
import sys
from types import ModuleType

import torch

from onebasin.errors import OnebasinError

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _import_torchvision() -> ModuleType:
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        raise OnebasinError("torchvision is not installed; run `pip install torchvision`") from error
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        library = _declare_missing_operators()
    # The failed import leaves submodules behind; without their package they would not become its attributes.
    for name in [name for name in sys.modules if name.startswith("torchvision.")]:
        del sys.modules[name]
    module = importlib.import_module("torchvision")
    # What a Library declares disappears with it, so it has to live as long as torchvision.
    vars(module)["_declared_by_onebasin"] = library
    return module


def _declare_missing_operators() -> torch.library.Library:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    return library


torchvision = _import_torchvision()
# Not every version imports these along with the package.
importlib.import_module("torchvision.transforms.v2")

__all__ = ["torchvision"]
