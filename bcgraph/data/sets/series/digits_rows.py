"""scikit-learn's digits as sequences of rows."""

from bcgraph.data.declaration import Declaration, sequence

DATA_SET = Declaration(
    about="the same digits, a row a step",
    load="bcgraph.data.readers.digits:load_rows",
    forms=(sequence(1, 1, 8, steps=8),),
    classes=10,
    train=1_200,
    test=597,
)
