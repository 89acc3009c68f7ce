"""scikit-learn's digits as images."""

from bcgraph.data.declaration import Declaration, image

DATA_SET = Declaration(
    about="scanned digits of 8x8 pixels, which scikit-learn brings",
    load="bcgraph.data.readers.digits:load_images",
    forms=(image(1, 8, 8),),
    classes=10,
    train=1_200,
    test=597,
)
