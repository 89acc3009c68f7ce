"""JapaneseVowels: utterances of nine speakers."""

from bcgraph.data.declaration import Declaration, Form, sequence

DATA_SET = Declaration(
    about="640 utterances of two vowels by nine speakers, as 12 coefficients",
    load="bcgraph.data.readers.vowels:load_japanese_vowels",
    forms=(
        sequence(12, steps=25),
        sequence(1, 12, steps=25),
        sequence(1, 1, 12, steps=25),
        Form("signal", (12, 25)),
    ),
    found="the wheel of aeon, or its .ts files",
    classes=9,
    train=270,
    test=370,
)
