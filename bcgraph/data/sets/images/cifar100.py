"""CIFAR-100: 60,000 images of 100 classes."""

from bcgraph.data.declaration import Declaration, image

DATA_SET = Declaration(
    about="60,000 color images of 100 classes",
    load="bcgraph.data.readers.cifar:load_cifar100",
    forms=(image(3, 32, 32),),
    found="cifar-100-python",
    classes=100,
    train=50_000,
    test=10_000,
    settings=("download",),
    changes="crop, flip",
)
