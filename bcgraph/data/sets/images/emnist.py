"""EMNIST, balanced: 131,600 handwritten digits and letters."""

from bcgraph.data.declaration import Declaration, image

DATA_SET = Declaration(
    about="handwritten digits and letters of 28x28 pixels, the balanced split",
    load="bcgraph.data.readers.mnist:load_emnist",
    forms=lambda data: (image(1, data.size or 28, data.size or 28),),
    found="EMNIST/raw/*-ubyte",
    classes=47,
    train=112_800,
    test=18_800,
    settings=("download", "size"),
    sizes=(32, 28, 14, 7, 4, 2, 1),
    changes="none",
)
