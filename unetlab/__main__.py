"""``python -m unetlab`` is the command ``unetlab``."""

import sys

from unetlab.cli import main

sys.exit(main())
