"""`nest` from a checkout that is not installed.

PYTHONPATH=.:experiments python -m nestbook evidence
"""

from nestbook import extension
from nestlib.extensions import register

register(extension)

if __name__ == "__main__":
    # Commands are collected where this is imported, the extension's included.
    from nestlib.cli.main import main

    main()
