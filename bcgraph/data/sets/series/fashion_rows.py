"""Fashion-MNIST as sequences of rows."""

from bcgraph.data.declaration import Declaration, Form, sequence
from bcgraph.schema import DataSpec


def forms(data: DataSpec) -> tuple[Form, ...]:
    """A row a step, of as many pixels as there are rows."""
    side = data.size or 28
    return (sequence(1, 1, side, steps=side),)


DATA_SET = Declaration(
    about="the images of Fashion-MNIST, a row a step",
    load="bcgraph.data.readers.mnist:load_fashion_rows",
    forms=forms,
    found="FashionMNIST/raw/*-ubyte, or Debian's package",
    classes=10,
    train=60_000,
    test=10_000,
    settings=("download", "size"),
    sizes=(32, 28, 14, 7, 4, 2, 1),
)
