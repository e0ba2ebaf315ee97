"""Wrong implementations, each a few lines on top of a plain chunk form.

The gate must catch every one of them: a gate that lets one pass would let the same bug pass in an
implementation. They ship with fwpbench, so that the score can be computed on any machine.
"""

from __future__ import annotations

from fwpbench.harness.mutants import borders, cheats, corrections, formats
from fwpbench.harness.mutants.mutant import Mutant

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for module in (borders, corrections, formats, cheats)
    for mutant in module.MUTANTS
}
