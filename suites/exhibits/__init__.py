"""The museum of bugs: defects that were published, each in a few lines of our own.

No line is copied; what each is made of was read where its credits point, or is told there.
"""

from __future__ import annotations

from fwpbench.suites.exhibits import decays, feature_maps, normalizers, scales
from fwpbench.suites.exhibits.exhibit import Exhibit

EXHIBITS: dict[str, Exhibit] = (
    feature_maps.EXHIBITS | normalizers.EXHIBITS | decays.EXHIBITS | scales.EXHIBITS
)
