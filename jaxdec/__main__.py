"""`python -m jaxdec` is `jaxdec`."""

import sys

from jaxdec.cli import main

if __name__ == "__main__":
    sys.exit(main())
