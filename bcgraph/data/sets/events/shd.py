"""SHD: spoken digits as spikes."""

from bcgraph.data.declaration import Declaration, sequence

DATA_SET = Declaration(
    about="spoken digits as spikes of 700 units",
    load="bcgraph.data.readers.ears:load_shd",
    forms=(
        sequence(None),
        sequence(1, None),
        sequence(1, 1, None),
    ),
    found="SHD/shd_train.h5, SHD/shd_test.h5",
    classes=20,
    train=8_156,
    test=2_264,
    changes="none",
)
