"""`python -m bcgraph` is the same as the `bcgraph` command."""

from bcgraph.cli.main import main

if __name__ == "__main__":
    main()
