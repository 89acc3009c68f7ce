"""N-MNIST: the digits of MNIST before an event camera."""

from bcgraph.data.declaration import Declaration, sequence

DATA_SET = Declaration(
    about="the digits of MNIST on a moving screen",
    load="bcgraph.data.readers.cameras:load_n_mnist",
    forms=(sequence(2, None, None),),
    found="NMNIST/Train/DIGIT/*.bin",
    classes=10,
    train=60_000,
    test=10_000,
    changes="none",
)
