"""The data sets of bcgraph itself, a module each, which has the name of the data set and declares it as `DATA_SET`.

A module is imported when its data set is asked for; a text is checked against the names of the files. The folders only
sort them.
"""
