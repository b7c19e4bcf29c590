"""``python -m alphapanda``: the command line, also where the ``alphapanda`` script is not on the path."""

from alphapanda.commands.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
