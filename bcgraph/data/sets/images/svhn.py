"""SVHN: 99,289 house numbers."""

from bcgraph.data.declaration import Declaration, image

DATA_SET = Declaration(
    about="house numbers from street views, in color",
    load="bcgraph.data.readers.svhn:load_svhn",
    forms=(image(3, 32, 32),),
    found="train_32x32.mat, test_32x32.mat",
    classes=10,
    train=73_257,
    test=26_032,
    settings=("download",),
)
