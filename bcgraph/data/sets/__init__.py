"""The data sets of bcgraph itself, a module each, which has the name of the data set.

`load` reads it for a request. `FORM` is the input and the steps of the networks for it, where there is one form. A
module is imported when its data set is asked for; a text is checked against the names of the files.
"""
