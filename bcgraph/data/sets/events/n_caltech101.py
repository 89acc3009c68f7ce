"""N-Caltech101: images of 101 classes before an event camera."""

from bcgraph.data.declaration import Declaration, sequence

DATA_SET = Declaration(
    about="images of 101 classes on a moving screen",
    load="bcgraph.data.readers.cameras:load_n_caltech101",
    forms=(sequence(2, None, None),),
    found="NCALTECH101/Caltech101/CLASS/*.bin",
    classes=101,
    changes="flip, shift",
)
