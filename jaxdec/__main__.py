"""`python -m jaxdec` is `jaxdec`."""

import sys

from jaxdec.cli import script

if __name__ == "__main__":
    sys.exit(script())
