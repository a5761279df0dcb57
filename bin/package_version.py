#!/usr/bin/env python3
"""Print the installed version of a Python package, without importing it."""

import sys
from importlib.metadata import version

print(version(sys.argv[1]))
