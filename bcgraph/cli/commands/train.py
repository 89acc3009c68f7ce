"""`bcgraph train`: train a network as its file says; the same command resumes after an interruption."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, cast

import typer

from bcgraph.cli.inputs import (
    AcceleratorOption,
    Captures,
    GraphsOption,
    JsonOption,
    OutOption,
    RunArgument,
    SeedOption,
    SetOption,
    Switch,
    read_source,
)
from bcgraph.cli.output import connections, count, emit, emit_json, leads, say
from bcgraph.cli.progress import Remaining, is_terminal
from bcgraph.training.distributed import slurm

if TYPE_CHECKING:
    from bcgraph.schema import NetworkSpec
    from bcgraph.training.events import Event, Progress, TrainResult
    from bcgraph.training.options import Precision

LOUD = 0.3
"""Feedback with a gain above this is as loud as the forward current from the first updates on."""

FAR = 0.5
"""Feedback is far when it runs back over at least this share of the ports."""

FEW = 2
"""Up to so many loud connections, as the paper has, are left to the user; of more the sum is too loud."""


def train_command(
    spec: RunArgument,
    out: OutOption,
    seed: SeedOption = 0,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, metavar="N", help="Epochs, in place of those in the file.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="FILE", help="Initial weights: a .safetensors file, or torchvision:NAME."),
    ] = None,
    from_ann: Annotated[
        str | None,
        typer.Option(
            "--from-ann", metavar="FILE", help="Fine-tune these weights; those that do not fit are listed and left out."
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            "--schedule", metavar="NAME", help="unrolled or folded.", show_default="the faster one for the network"
        ),
    ] = None,
    device: AcceleratorOption = "cpu",
    devices: Annotated[int, typer.Option("--devices", metavar="N", help="Devices that share each batch.")] = 1,
    precision: Annotated[
        str, typer.Option("--precision", metavar="NAME", help="32, 64, bf16-mixed or 16-mixed.")
    ] = "32",
    graphs: GraphsOption = Captures.AUTO,
    tf32: Annotated[
        Switch, typer.Option("--tf32", help="On a GPU, round the operands of convolutions to 10 bits.")
    ] = Switch.ON,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write a log for TensorBoard; log.csv is written in any case.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew, even where DIR holds this training run.")] = False,
    settings: SetOption = [],  # noqa: B006  (never changed; typer wants a list)
    as_json: JsonOption = False,
) -> None:
    """Train, and leave in DIR the specification, the weights of the last and of the best epoch, and a log."""
    if spec == "-" and devices > 1:
        raise typer.BadParameter(
            "each of several devices reads it anew, which standard input does not allow: name a file", param_hint="SPEC"
        )
    if weights is not None and from_ann is not None:
        raise typer.BadParameter("give --weights or --from-ann, not both", param_hint="--from-ann")
    slurm.note_rank(devices)
    network = read_source(spec, settings).spec
    advice = None if as_json else quieter(network)
    from bcgraph import training
    from bcgraph.training.distributed.devices import needs_fabric

    options = training.Options(device, devices, cast("Precision", precision), graphs.value, tf32 is Switch.ON)
    if needs_fabric(options):
        import lightning_fabric  # noqa: F401  (its first import sets the level of its log)

        # It reports the precision and the processes, which the user has just asked for.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    with progress() as on_event:
        result = training.train(
            network,
            out=out,
            seed=seed,
            epochs=epochs,
            schedule=schedule,
            weights=weights if from_ann is None else from_ann,
            partial=from_ann is not None,
            progress=on_event if advice is None else _noted(advice, on_event),
            resume=not fresh,
            options=options,
            tensorboard=tensorboard,
        )
    if as_json:
        emit_json(_data(result))
    else:
        emit(
            f"{result.path}: accuracy {result.accuracy:.4f} on the test part of {network.data.name} "
            f"after {count(len(result.history), 'epoch')}"
        )


def quieter(network: NetworkSpec) -> str | None:
    """One line that suggests a smaller gain where feedback is loud, and far or of many connections; otherwise None."""
    loud = [bc for bc in sorted(network.backward) if (network.gain(bc) or 0.0) > LOUD]
    far = [bc for bc in loud if bc.source - bc.target >= FAR * len(network.ports)]
    if not far and len(loud) <= FEW:
        return None
    pairs = connections((bc.source, bc.target) for bc in far[:FEW])
    what = f"far feedback ({pairs})" if far else f"feedback of {len(loud)} connections"
    return f"{what} often costs accuracy at full gain; `feedback = project(gain=0.1)` in the network starts it quietly"


def _noted(note: str, progress: Progress | None) -> Progress:
    """`progress`, with a note at the first event: once all is checked and training has begun."""
    said = False

    def on_event(event: Event) -> None:
        nonlocal said
        if not said:
            said = True
            say(f"note: {note}")
        if progress is not None:
            progress(event)

    return on_event


@contextmanager
def progress(label: str = "training") -> Iterator[Progress | None]:
    """Shows the events of training as a progress bar on a terminal, otherwise as a line an epoch on standard error."""
    if not is_terminal():
        yield EpochLines(label) if leads() else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.fields[epoch]}  loss {task.fields[loss]}  test {task.fields[test]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(label, total=None, epoch="-", loss="-", test="-")

        def on_event(event: Event) -> None:
            from bcgraph.training.events import Step

            if isinstance(event, Step):
                done = (event.epoch - 1) * event.steps + event.step
                epoch = f"{event.epoch}/{event.epochs}"
                shown.update(
                    task, total=event.epochs * event.steps, completed=done, epoch=epoch, loss=f"{event.loss:.3f}"
                )
            else:
                shown.update(task, test=f"{event.test_accuracy:.4f}")

        yield on_event


class EpochLines:
    """Prints a line after each epoch: losses, accuracies, and the time left."""

    def __init__(self, label: str, remaining: Remaining | None = None) -> None:
        self.label = label
        self.remaining = remaining or Remaining()
        self.epochs = self.steps = 0

    def __call__(self, event: Event) -> None:
        """Learn of an update, or print a line after an epoch."""
        from bcgraph.training.events import Step

        if isinstance(event, Step):
            if not self.epochs:
                self.remaining.left((event.epoch - 1) * event.steps + event.step - 1, event.epochs * event.steps)
                self.steps = event.steps
            self.epochs = event.epochs
            return
        left = self.remaining.left(event.epoch * self.steps, self.epochs * self.steps)
        say(
            f"{self.label}: epoch {event.epoch}/{self.epochs}, loss {event.loss:.4f}, training accuracy "
            f"{event.train_accuracy:.4f}, test {event.test_accuracy:.4f}{', ' if left else ''}{left}"
        )


def _data(result: TrainResult) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "weights": str(result.path),
        "accuracy": result.accuracy,
        "best": result.best,
        "history": [asdict(epoch) for epoch in result.history],
    }
