"""MNIST: 70,000 handwritten digits."""

from bcgraph.data.declaration import Declaration, image

DATA_SET = Declaration(
    about="handwritten digits of 28x28 pixels",
    load="bcgraph.data.readers.mnist:load_mnist",
    forms=lambda data: (image(1, data.size or 28, data.size or 28),),
    found="MNIST/raw/*-ubyte",
    classes=10,
    train=60_000,
    test=10_000,
    settings=("download", "size"),
    sizes=(32, 28, 14, 7, 4, 2, 1),
    changes="none",
)
