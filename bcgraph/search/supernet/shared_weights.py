"""The weights that all candidates of a search share: those of the backbone, and one projection for each pair.

A module is created when a candidate first needs it. Its values depend on the seed and its own name alone, so the order
of candidates does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, fx, nn

from bcgraph.compiler import passes, pipelines
from bcgraph.compiler.driver import channels_last_pays
from bcgraph.compiler.ir import TemporalGraph
from bcgraph.compiler.targets.fx.module import to_fx
from bcgraph.nn import modules, tree
from bcgraph.nn.conv.input_gradient import conv2d_frozen_weight
from bcgraph.nn.conv.int16 import Int16Weight, fits
from bcgraph.nn.conv.winograd import TiledWeight, pays
from bcgraph.schema import NetworkSpec
from bcgraph.search.supernet.lowered import Lowered


class SharedWeights:
    """Modules by name, and compiled candidates that hold them.

    `dtype` and `device` are those of the modules, `layout` the memory format of convolutions (default: what is faster).
    All candidates must have one backbone.
    """

    def __init__(
        self,
        seed: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        layout: torch.memory_format | None = None,
    ) -> None:
        self.seed = seed
        self.dtype = dtype
        self.device = device
        self.frozen = False
        self.whole = False
        self.input_gradient: torch.dtype | None = None
        self.modules: dict[str, nn.Module] = {}
        self._layout: torch.memory_format | None = layout

    def candidate(self, spec: NetworkSpec, schedule: str = "unrolled") -> fx.GraphModule:
        """The compiled network of `spec`, which shares its modules with every other candidate. Raises CompileError."""
        return self.compiled(Lowered.of(spec), schedule)

    def compiled(
        self, network: Lowered, schedule: str = "unrolled", optimize: pipelines.Names = pipelines.SUPERNET
    ) -> fx.GraphModule:
        """The compiled network of a candidate that is lowered already, after the passes in `optimize`."""
        return to_fx(network.scheduled(schedule, optimize), self.assemble(network))

    def freeze(self, input_gradient: torch.dtype | None = None, *, whole: bool = False) -> None:
        """From now on no weight asks for a gradient, and none may change.

        Convolutions compute their input's gradient in the given type, if any; with `whole` those that read spikes
        do so in whole numbers. Call it before the first module is created.
        """
        assert not self.modules
        self.frozen = True
        self.whole = whole
        self.input_gradient = input_gradient

    def layout_for(self, spec: NetworkSpec) -> torch.memory_format:
        """The memory format of all convolutions: the given one, or the one in which the backbone of `spec` runs faster.

        The backbone decides for all, whichever candidate comes first: the layout changes the last digits.
        """
        if self._layout is None:
            self._layout = torch.contiguous_format
            last = channels_last_pays(self.root(spec.with_connections()))
            self._layout = torch.channels_last if last else torch.contiguous_format
            for module in self.modules.values():
                module.to(memory_format=self._layout)
        return self._layout

    def root(self, spec: NetworkSpec) -> nn.Module:
        """A tree of the modules that `spec` uses. Creates those that are missing. Raises CompileError."""
        return self.assemble(Lowered.of(spec))

    def assemble(self, network: Lowered) -> nn.Module:
        """A tree of the modules that a lowered network uses. Creates those that are missing."""
        layout = self.layout_for(network.spec)
        graph = network.graph
        shapes = graph.values()
        spiking = spike_readers(graph) if self.whole else frozenset()
        root = tree.Tree()
        for node in graph.nodes:
            name = node.module
            if name is None:
                continue
            shared = network.shared_name(name)
            if shared not in self.modules:
                given = shapes[node.inputs[0].value].shape
                built = modules.build([(shared, node.attrs["layer"], given)], graph.steps, self.seed)
                self.modules[shared] = tree.find(built, shared).to(device=self.device, dtype=self.dtype)
                self.modules[shared].to(memory_format=layout)
                if self.frozen:
                    self._freeze(self.modules[shared], spikes=name in spiking)
            tree.place(root, name, self.modules[shared])
        return root

    def whole_tree(self, specs: Iterable[NetworkSpec]) -> nn.Module:
        """A tree of the modules of all these networks by their shared names. Creates those that are missing."""
        for spec in specs:
            self.root(spec)
        return tree.of(self.modules)

    def _freeze(self, module: nn.Module, *, spikes: bool) -> None:
        module.requires_grad_(False)
        if isinstance(module, modules.Conv):
            module.input_gradient = self.input_gradient
            module.tiled = True
            module.int16 = spikes and fits(module.weight, module.groups)

    def state_dict(self) -> dict[str, Tensor]:
        """Every value under its standard name (`backward.J_I.conv.weight`); shared, not copied."""
        return {
            f"{name}.{part}": value
            for name, module in self.modules.items()
            for part, value in module.state_dict(keep_vars=True).items()
        }

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Copy values by name. Raises KeyError when one belongs to no module that exists yet."""
        own = self.state_dict()
        for name, value in values.items():
            own[name].copy_(value)


class FoldedModules:
    """The modules of `weights` for evaluation, with the weights' values at the time each is first needed.

    A convolution has the batch norm after it folded in, and its weight is laid out for the kernels once; with `whole`
    those that read spikes compute in whole numbers.
    """

    def __init__(self, weights: SharedWeights, *, whole: bool = False) -> None:
        self.weights = weights
        self.whole = whole
        self._folded: dict[str, nn.Module] = {}

    def assemble(self, network: Lowered) -> nn.Module:
        """A tree of the modules that a lowered network uses. It can be called in evaluation mode only."""
        root = self.weights.assemble(network)
        graph = network.graph
        shapes = graph.values()
        spiking = spike_readers(graph) if self.whole else frozenset()
        folded = passes.PASSES["fold_bn"].run(graph)
        norms = {n.attrs["conv"]: n.attrs["norm"] for n in folded.nodes if n.op == "fold_norm"}
        for node in graph.nodes:
            name = node.module
            if node.op != "conv" or name is None:
                continue
            norm = norms.get(name)
            shared = network.shared_name(name)
            if shared not in self._folded:
                conv, following = tree.find(root, name), None if norm is None else tree.find(root, norm)
                assert isinstance(conv, modules.Conv)
                _, height, width = shapes[node.inputs[0].value].shape
                self._folded[shared] = _FoldedConv(conv, following, (height, width), whole=name in spiking)
            tree.place(root, name, self._folded[shared])
            if norm is not None:
                tree.place(root, norm, _FoldedNorm())
        return root


class _FoldedConv(nn.Module):
    """A convolution with the norm after it, in evaluation mode and without gradients."""

    @torch.no_grad()
    def __init__(self, conv: modules.Conv, norm: nn.Module | None, size: tuple[int, int], *, whole: bool) -> None:
        super().__init__()
        padding = conv.padding
        assert not isinstance(padding, str)
        settings = (conv.stride, padding, conv.dilation, conv.groups)
        factor, bias = None, conv.bias
        if norm is not None:
            assert isinstance(norm, modules.BatchNorm)
            factor, bias = norm.folded(bias)
        self.convolve: Callable[[Tensor], Tensor]
        if whole and fits(conv.weight, conv.groups):
            self.convolve = Int16Weight.of(conv.weight, settings, size, factor, bias)
            return
        weight = conv.weight if factor is None else conv.weight * factor.view(-1, 1, 1, 1)
        stride, padding, dilation, groups = settings
        self.convolve = partial(
            conv2d_frozen_weight,
            weight=weight,
            bias=bias,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            tiled=TiledWeight(weight) if pays(weight, size, settings) else None,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x)


class _FoldedNorm(nn.Module):
    """A norm that is part of the convolution before it."""

    def forward(self, x: Tensor, **_: int) -> Tensor:
        return x


def spike_readers(graph: TemporalGraph) -> frozenset[str]:
    """The names of the convolutions that read spikes, zeros and ones."""
    marked = passes.PASSES["pack_spikes"].run(graph)
    return frozenset(n.module for n in marked.nodes if n.op == "conv" and len(n.inputs) == 2 and n.module is not None)
