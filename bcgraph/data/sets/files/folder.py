"""A folder of images, a folder for each class."""

from bcgraph.data.declaration import Declaration, image

DATA_SET = Declaration(
    about="image files, a folder for each class",
    load="bcgraph.data.readers.folders:load_folder",
    forms=(image(3), image(1)),
    found="train/CLASS/IMAGE, test/CLASS/IMAGE",
    changes="crop, flip",
)
