"""Tiny ImageNet: 110,000 images of 200 classes."""

from bcgraph.data.declaration import Declaration, image

DATA_SET = Declaration(
    about="110,000 color images of 64x64 pixels and 200 classes",
    load="bcgraph.data.readers.folders:load_tiny_imagenet",
    forms=(image(3),),
    found="tiny-imagenet-200",
    classes=200,
    train=100_000,
    test=10_000,
    changes="crop, flip",
)
