"""``python -m collabdesign``: the same as the ``collabdesign`` command."""

import os
import sys

if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
        # `python -m` puts the working directory first: a file there that is named as a module would
        # be run. Where the package itself lies there, last is enough.
        first = sys.path.pop(0)
        package = os.path.dirname(os.path.abspath(__file__))
        if os.path.dirname(package) == os.path.abspath(first):
            sys.path.append(os.path.abspath(first))

    from collabdesign.cli.main import main

    main()
