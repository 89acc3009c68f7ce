"""SSC: spoken commands as spikes."""

from bcgraph.data.declaration import Declaration, sequence

DATA_SET = Declaration(
    about="spoken commands as spikes of 700 units",
    load="bcgraph.data.readers.ears:load_ssc",
    forms=(
        sequence(None),
        sequence(1, None),
        sequence(1, 1, None),
    ),
    found="SSC/ssc_train.h5, SSC/ssc_test.h5",
    classes=35,
    train=75_466,
    test=20_382,
    changes="none",
)
