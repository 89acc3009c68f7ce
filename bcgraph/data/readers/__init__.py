"""What reads the files of data sets, a kind of files a module."""
