"""A comparison that raises, and says which tensor and by how much."""

from fwpbench.testing import assert_close as assert_close
from fwpbench.testing import relative_error as relative_error
