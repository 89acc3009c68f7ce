"""The compiler's entry: a specification in, a torch.fx module out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx, nn

from bcgraph.compiler import passes, pipelines
from bcgraph.compiler.lower import lower
from bcgraph.compiler.passes import Pass
from bcgraph.compiler.targets.fx import backends
from bcgraph.compiler.targets.fx.module import parameters, to_fx
from bcgraph.errors import CompileError
from bcgraph.nn.defaults import ordinary_modes
from bcgraph.schema import NetworkSpec


@ordinary_modes()
def compile(
    spec: NetworkSpec,
    schedule: str | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    optimize: Sequence[str | Pass] | None = None,
    seed: int = 0,
    inference: bool = False,
    weights: str | None = None,
    backend: str = "eager",
    recompute: bool = False,
    graphs: bool = False,
    root: nn.Module | None = None,
) -> fx.GraphModule:
    """Compile `spec` into a torch.fx `GraphModule`.

    The `unrolled` and `folded` schedules give `x -> O`, with x `[N, C, H, W]` for an image and `[T, N, C, H, W]` for a
    sequence, and O `[T, N, classes]`. The `step` schedule gives `(x_t, *states) -> (O_t, *states)` with
    `initial_states(x_t)`. All have the same state dict. Without a name it is the faster of the first two.

    Weights are drawn in float32 from `seed` and the parameters' names, then cast to `dtype`; a `root` made by
    `targets.fx.parameters` is shared instead. `optimize` names the passes to run, in order; without it
    a pipeline for training runs, or with `inference` one that also folds norms into convolutions, whose module stays in
    eval mode and, called without gradients on a CPU, keeps its memory for the next call. With `inference`, `weights`
    may be `int16`: weights that meet spikes are rounded to 16 bits, so that currents are exact sums, in less time on
    processors with instructions for 8 bits (AVX-512 VNNI). `backend` is `eager` or
    `inductor` (torch.compile of the whole graph, or an error). With `recompute` training keeps the values of about
    2*sqrt(T) steps instead of T, for one more forward pass. With `graphs` calls without gradients on a GPU are captured
    as CUDA graphs, one for each shape, type and mode; elsewhere it changes nothing. Convolution weights are laid out
    channels-last where that is faster. Raises CompileError.
    """
    lowered = lower(spec)
    pipeline = pipelines.chosen(optimize, inference, weights)
    graph = passes.run(pipeline, lowered)
    schedule = schedule or ("unrolled" if recompute else pipelines.fastest(graph))
    program = pipelines.scheduled(graph, schedule)
    owner = parameters(lowered, seed) if root is None else root
    frozen = any(p.inference_only for p in pipeline)
    if recompute and (schedule != "unrolled" or frozen):
        raise CompileError("E072", "only an unrolled module for training recomputes", hint="drop `recompute`")
    module = to_fx(program, owner, inference=frozen, recompute=recompute)
    if dtype is not None or device is not None:
        module.to(device=device, dtype=dtype)
    if channels_last_pays(module):
        module.to(memory_format=torch.channels_last)
    if graphs:
        module.meta["graphs"] = True
    backends.use(backend, module)
    return module


def channels_last_pays(module: nn.Module) -> bool:
    """Whether convolutions run faster channels-last: where their kernels take that layout as it is.

    That is so for the vectorized float32, bfloat16 and float16 kernels, on CPU and CUDA, when most of the
    work has channels to vectorize over; float64 has no such kernels.
    """
    weights = [m.weight for m in module.modules() if isinstance(m, nn.Conv2d)]
    wide = sum(w.numel() for w in weights if w.shape[1] >= 32)
    return bool(weights) and weights[0].dtype != torch.float64 and 2 * wide > sum(w.numel() for w in weights)
