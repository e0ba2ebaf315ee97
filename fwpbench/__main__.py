"""python -m fwpbench"""

import sys

from fwpbench.cli import main

sys.exit(main())
