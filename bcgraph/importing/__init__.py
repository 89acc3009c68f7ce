"""Networks from elsewhere: a torch module becomes a text of the language, with its weights.

imported = bcgraph.from_torch(torchvision.models.resnet18(), torch.zeros(1, 3, 224, 224))
imported.save("resnet18.bcg")
"""

from __future__ import annotations

from bcgraph.importing.importer import Imported, ImportFailedError, from_torch

__all__ = ["ImportFailedError", "Imported", "from_torch"]
