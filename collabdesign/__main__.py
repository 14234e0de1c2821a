"""``python -m collabdesign``: the same as the ``collabdesign`` command."""

from collabdesign.cli import main

if __name__ == "__main__":
    main()
