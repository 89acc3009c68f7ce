"""Networks from elsewhere: a torch module or a NIR file becomes a text of the language, with its weights.

imported = bcgraph.from_torch(torchvision.models.resnet18(), torch.zeros(1, 3, 224, 224))
imported.save("resnet18.bcg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph import lazy

if TYPE_CHECKING:
    from bcgraph.importing.importer import Imported, ImportFailedError, from_torch
    from bcgraph.importing.nir_file import from_nir

__all__ = ["ImportFailedError", "Imported", "from_nir", "from_torch"]

__getattr__ = lazy.attach(
    __name__,
    {
        "ImportFailedError": "bcgraph.importing.importer:ImportFailedError",
        "Imported": "bcgraph.importing.importer:Imported",
        "from_nir": "bcgraph.importing.nir_file:from_nir",
        "from_torch": "bcgraph.importing.importer:from_torch",
    },
)
