"""CIFAR-10: 60,000 images of 10 classes."""

from bcgraph.data.declaration import Declaration, image

DATA_SET = Declaration(
    about="60,000 color images of 10 classes",
    load="bcgraph.data.readers.cifar:load_cifar10",
    forms=(image(3, 32, 32),),
    found="cifar-10-batches-py",
    classes=10,
    train=50_000,
    test=10_000,
    settings=("download",),
    changes="crop, flip",
)
