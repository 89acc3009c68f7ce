"""Running a NIR file of another writer: as the network that it is imported to, with `bcgraph run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bcgraph.compiler.driver import compile as compile_spec
from bcgraph.compiler.targets.fx.module import StepModule
from bcgraph.importing.importer import Imported
from bcgraph.runtime import Stream
from bcgraph.signature import Floats, Signature, classes_of

States = dict[str, Any]


class Network:
    """An imported network, ready to run, as `runtime.Network` is an ONNX file."""

    def __init__(self, path: str | Path, imported: Imported) -> None:
        self.path = Path(path)
        spec = imported.spec
        self.signature = Signature("nir", spec.steps, spec.readout, spec.input, ())
        self._whole = compile_spec(spec, inference=True)
        step = compile_spec(spec, "step", inference=True)
        assert isinstance(step, StepModule)
        self._step: StepModule = step
        for model in (self._whole, self._step):
            model.load_state_dict(dict(imported.state_dict))

    @torch.no_grad()
    def __call__(self, inputs: Floats) -> Floats:
        """The output `O`, `[T, N, classes]`, of `[N, C, H, W]`, or `[T, N, C, H, W]`. Raises RunError (E090)."""
        return np.asarray(self._whole(torch.from_numpy(self.signature.checked(inputs))).numpy())

    def predict(self, inputs: Floats) -> NDArray[np.int64]:
        """The class of each sample `[N]`: the arg max of what the readout makes of `O`."""
        return classes_of(self(inputs), self.signature.readout, self.path)

    def stream(self) -> Stream:
        """One stream of frames, with its own states."""
        return Stream(self)

    def begin(self, batch: int) -> States:
        """What every sample starts from."""
        return {}

    @torch.no_grad()
    def advance(self, frame: Floats, states: States) -> tuple[Floats, States]:
        """One step: O_t `[N, classes]`, and the states after it."""
        x = torch.from_numpy(np.ascontiguousarray(frame, dtype=np.float32))
        before: tuple[Tensor, ...] = states.get("states") or self._step.initial_states(x)
        output, *after = self._step(x, *before)
        return np.asarray(output.numpy()), {"states": tuple(after)}
