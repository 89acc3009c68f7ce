"""KMNIST: 70,000 cursive Japanese characters."""

from bcgraph.data.declaration import Declaration, image

DATA_SET = Declaration(
    about="cursive Japanese characters of 28x28 pixels",
    load="bcgraph.data.readers.mnist:load_kmnist",
    forms=lambda data: (image(1, data.size or 28, data.size or 28),),
    found="KMNIST/raw/*-ubyte",
    classes=10,
    train=60_000,
    test=10_000,
    settings=("download", "size"),
    sizes=(32, 28, 14, 7, 4, 2, 1),
    changes="none",
)
