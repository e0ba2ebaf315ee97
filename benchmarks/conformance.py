r"""How far are the retrieval suite's curves from the authors' logs? A table of a run's records.

fwpbench run retrieval --profile standard --where "V<=40 trial=0" --implementations chunked \
    --output RUN
python benchmarks/conformance.py RUN

Differences are |loss − published| ÷ published, at the first evaluation and the worst of all. What
was seen is written down in docs/conformance.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fwpbench.harness.records import Record, from_line
from fwpbench.operators.problem import Problem


def main(run: str) -> None:
    print("| setting | S | operator | by | evaluations | first | worst | steps | published |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for line in (Path(run) / "records.jsonl").read_text(encoding="utf-8").splitlines():
        record = from_line(line)
        if "first" in record.detail.get("published", {}):
            print(row(record))


def row(record: Record) -> str:
    problem, published = Problem.parse(record.problem), record.detail["published"]
    cells = [
        f"{record.parameters['setting']:.0f}",
        problem.V,
        problem.operator,
        record.implementation,
        published["compared"],
        f"{published['first']:.1e}",
        f"{published['worst']:.1e}",
        f"{record.metrics['steps'].value:,.0f}, {record.detail['stop reason']}",
        f"{published['steps']:,}, {published['stop reason']}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main(*sys.argv[1:])
