"""CIFAR10-DVS: 10,000 recordings of an event camera."""

from bcgraph.data.declaration import Declaration, sequence

DATA_SET = Declaration(
    about="recordings of an event camera before moving images of CIFAR-10",
    load="bcgraph.data.readers.cifar10dvs:load_cifar10dvs",
    forms=(sequence(2, None, None),),
    found="CIFAR10DVS/CLASS/*.aedat4",
    classes=10,
    train=9_000,
    test=1_000,
    changes="flip, shift",
)
