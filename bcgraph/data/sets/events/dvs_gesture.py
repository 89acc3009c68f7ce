"""DVS128 Gesture: gestures of 29 people."""

from bcgraph.data.declaration import Declaration, sequence

DATA_SET = Declaration(
    about="gestures before an event camera",
    load="bcgraph.data.readers.cameras:load_dvs_gesture",
    forms=(sequence(2, None, None),),
    found="DVSGesture/ibmGestureTrain/USER/LABEL.npy",
    classes=11,
    train=1_077,
    test=264,
    changes="shift",
)
