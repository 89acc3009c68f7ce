"""Weights as safetensors files: saved with the network they belong to, loaded without running anyone's code.

A file's metadata says for which network it was made, and holds a seal over the whole file. There is one metadata
entry, JSON, because safetensors writes several in an order that changes from run to run; so equal weights give equal
files. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bcgraph import files, foreign, seals, tensorfiles
from bcgraph.errors import WeightsError, nearest
from bcgraph.memory import ran_out, room
from bcgraph.process import printed_as_messages
from bcgraph.schema import Connection, NetworkSpec

LISTED = 8

_TYPES = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Fit:
    """What `apply` found: names the file lacks, names the network lacks, and names whose shapes differ."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether everything fitted."""
        return not (self.missing or self.unexpected or self.misshaped)

    def lines(self) -> tuple[str, ...]:
        """One line for each kind of misfit; long lists are cut."""
        kinds = (
            ("missing in the file", self.missing),
            ("not in the network", self.unexpected),
            ("of another shape", self.misshaped),
        )
        return tuple(f"{kind}: {_listed(found)}" for kind, found in kinds if found)


def save(
    path: str | PathLike[str],
    state_dict: Mapping[str, Tensor],
    *,
    spec: NetworkSpec,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `state_dict` for the network of `spec`, in one step. `metadata` is kept with it.

    Equal arguments give equal bytes. Raises RunError (E084).
    """
    described = {**describe(spec), "metadata": dict(sorted((metadata or {}).items()))}
    files.write_bytes(path, pack(state_dict, described))


def load(path: str | PathLike[str], *, spec: NetworkSpec | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    With `spec`, a file that says it was made for another network is refused; a file that does not say (one from
    elsewhere) is left to `apply`. Raises WeightsError: E082 when the file is missing or damaged, E083 for another
    network.
    """
    tensors, described = unpack(path)
    if spec is not None and "fingerprint" in described and described["fingerprint"] != spec.fingerprint():
        own = describe(spec)
        raise WeightsError(
            "E083",
            f"`{path}` holds weights of another network: {_named(described)}, where {_named(own)} is needed",
            notes=_differences(described, own),
        )
    return tensors


def published(name: str) -> dict[str, Tensor]:
    """The weights that torchvision publishes for its model `name`, for example `resnet18`; for `apply` with `partial`.

    torchvision keeps them where it keeps all (`TORCH_HOME`), and when they are not there downloads them and compares
    their checksum. They are loaded as tensors only. Raises WeightsError (E082).
    """
    from torchvision.models import get_model_weights, list_models

    if name not in list_models():
        raise WeightsError("E082", f"torchvision has no model `{name}`", hint=nearest(name, list_models()))
    chosen = get_model_weights(name).DEFAULT
    try:
        with printed_as_messages():  # torch announces a download on standard output, where results belong
            state: dict[str, Tensor] = chosen.get_state_dict(check_hash=True, weights_only=True, progress=False)
    # No connection, a file cut off, more than tensors in it: torch's reader lets every kind of exception through.
    except Exception as error:
        raise WeightsError(
            "E082",
            f"no published weights of `{name}`: {(str(error) or type(error).__name__).splitlines()[0]}",
            hint=f"download {chosen.url} to `{torch.hub.get_dir()}/checkpoints`",
        ) from error
    return state


def metadata(path: str | PathLike[str]) -> dict[str, str]:
    """What `save` was given to keep with the weights. Raises WeightsError (E082)."""
    return tensorfiles.metadata(unpack(path)[1])


def apply(model: nn.Module, state_dict: Mapping[str, Tensor], *, partial: bool = False) -> Fit:
    """Copy `state_dict` into `model`, converting dtype and device, and say what fitted.

    With `partial` what fits is copied and the rest is left as it is. Otherwise any misfit raises WeightsError (E083),
    which lists the names, and the model is unchanged. Values that are not finite, and negative variances, raise it too.
    """
    own = model.state_dict()
    shared = [name for name in own if name in state_dict]
    fit = Fit(
        missing=tuple(name for name in own if name not in state_dict),
        unexpected=tuple(name for name in state_dict if name not in own),
        misshaped=tuple(
            f"{name} ({_shape(state_dict[name])} for {_shape(own[name])})"
            for name in shared
            if state_dict[name].shape != own[name].shape
        ),
    )
    if not fit and not partial:
        first = next(iter(fit.unexpected), None)
        hint = nearest(first, fit.missing) if first is not None else None
        raise WeightsError("E083", "the weights do not fit the network", notes=fit.lines(), hint=hint)
    fitting = [name for name in shared if state_dict[name].shape == own[name].shape]
    wrong = tuple(f"{name}: {flaw}" for name in fitting if (flaw := flaw_of(name, state_dict[name], own[name])))
    if wrong:
        raise WeightsError("E083", "the weights hold values that no network can have", notes=(_listed(wrong),))
    with torch.no_grad():
        for name in fitting:
            own[name].copy_(state_dict[name])
    return fit


def flaw_of(name: str, value: Tensor, own: Tensor) -> str | None:
    """Why `value` cannot stand in a network in the place of `own`, which has its shape; None when it can."""
    if value.is_floating_point() != own.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        return f"{value.dtype} where {own.dtype} is needed".replace("torch.", "")
    if not bool(torch.isfinite(value.to(own.dtype)).all()):
        return f"not finite in {own.dtype}".replace("torch.", "")
    if name.endswith("running_var") and bool((value < 0).any()):
        return "a negative variance"
    if name.endswith("num_batches_tracked") and bool((value < 0).any()):
        return "a negative count"
    return None


def describe(spec: NetworkSpec) -> dict[str, object]:
    """What a file says of the network it belongs to."""
    return {
        "fingerprint": spec.fingerprint(),
        "network": spec.name,
        "backbone": spec.backbone.call.name,
        "steps": spec.steps,
        "backward": ", ".join(map(_connection, sorted(spec.backward))) or "none",
        **({"forward": ", ".join(map(_connection, sorted(spec.forward)))} if spec.forward else {}),
    }


def pack(tensors: Mapping[str, Tensor], described: Mapping[str, object]) -> bytearray:
    """A safetensors file as bytes, sealed, with `described` as JSON in its metadata."""
    made = serialized(tensors, {**described, seals.NAME: seals.BLANK})
    seals.seal_in_place(made)
    return made


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A digest of weights, by which a checkpoint knows what its run began with."""
    return hashlib.sha256(serialized(tensors, {})).hexdigest()[:16]


def serialized(tensors: Mapping[str, Tensor], described: Mapping[str, object] | None = None) -> bytearray:
    """A safetensors file as bytes, without a seal; `described` is JSON in its metadata."""
    metadata = None if described is None else {tensorfiles.ENTRY: json.dumps(described, sort_keys=True)}
    return tensorfiles.packed({name: _stored(tensor) for name, tensor in tensors.items()}, metadata)


def _stored(tensor: Tensor) -> tensorfiles.Stored:
    # As bytes, since numpy has no bfloat16.
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return tensorfiles.Stored(_TYPES[tensor.dtype], tuple(tensor.shape), content)


def unpack(path: str | PathLike[str]) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The tensors of a safetensors file and what its metadata says. Raises WeightsError (E082)."""
    place = Path(path)
    if not foreign.is_file(place):
        if not place.exists():
            raise WeightsError("E082", f"the weights file `{place}` does not exist", hint=_beside(place))
        kind = "is a directory" if place.is_dir() else "is no regular file"
        raise WeightsError("E082", f"the weights file `{place}` {kind}")
    content, described = tensorfiles.read(place)
    # The library copies the tensors, and its process aborts or waits for ever where memory runs out.
    room(len(content))
    try:
        tensors = dict(sorted(safetensors.torch.load(content).items()))
    # Its reader has an error of its own for damage, and lets others through for types that it does not know.
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if ran_out(error):
            raise
        raise WeightsError("E082", f"`{place}` is not a whole safetensors file") from error
    return tensors, described


def _beside(place: Path) -> str | None:
    try:
        return nearest(place.name, [p.name for p in place.parent.iterdir()])
    except OSError:
        return None


def _named(described: Mapping[str, object]) -> str:
    return f"`{described.get('network')}` ({str(described.get('fingerprint'))[:12]})"


def _differences(one: Mapping[str, object], other: Mapping[str, object]) -> tuple[str, ...]:
    found = tuple(
        f"{key}: {one.get(key)} in the file, {other.get(key)} here"
        for key in ("backbone", "steps", "backward")
        if one.get(key) != other.get(key)
    )
    return found or ("they differ in a setting of the input, the neuron, the normalization or the layers",)


def _connection(each: Connection) -> str:
    return f"@{each.source} -> @{each.target}" + (f" delay {each.delay}" if each.delay != 1 else "")


def _listed(found: tuple[str, ...]) -> str:
    rest = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ", ".join(found[:LISTED]) + rest


def _shape(tensor: Tensor) -> str:
    return "x".join(str(n) for n in tensor.shape) or "scalar"
