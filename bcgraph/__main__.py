"""The program `bcgraph`, also run by `python -m bcgraph`: the command, until the process has ended."""

import sys


def main() -> None:
    """Run the command in this process, which ends with it."""
    # All is imported here: Ctrl-C while modules are loaded is no fault to be shown.
    try:
        from bcgraph.cli.main import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        from bcgraph.interrupts import unheeded

        unheeded()


if __name__ == "__main__":
    main()
