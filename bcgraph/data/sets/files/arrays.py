"""Arrays of numpy."""

from bcgraph.data.declaration import Declaration

DATA_SET = Declaration(
    about="arrays of your own, as .npz or .npy files",
    load="bcgraph.data.readers.arrays:load_arrays",
    found="`root` is the .npz file, or a folder of .npy files",
    settings=("held_out",),
)
