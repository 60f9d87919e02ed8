"""``python -m asynccopy.simulators``: see ``process``."""

from asynccopy.simulators.process import main

main()
