"""``python -m asynccopy`` is the command ``asynccopy``."""

import sys

from asynccopy.cli.main import main

sys.exit(main())
