"""No search: the identity, the baseline of every comparison."""

from collections.abc import Mapping
from typing import Any

import torch

from onebasin.data import Data
from onebasin.models.stack import Models
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import identity
from onebasin.symmetry.spec import Spec


def naive(models: Models, spec: Spec, data: Data, settings: Mapping[str, Any], generator: torch.Generator) -> Alignment:
    """Leave every model as it is."""
    return Alignment(identity(spec, len(models), models.device), {"steps": 0, "assignments": 0, "row_scans": 0})
