"""The sentences a reader should leave with, made from the records and from nothing else."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from fwpbench.harness.scaling_law import crossover_interval
from fwpbench.reports.capacity import THRESHOLD, load_of, most_pairs, pairs_of
from fwpbench.reports.curves import curves_of
from fwpbench.reports.evidence import Case, Evidence, varying
from fwpbench.reports.growth import Line, lines_of
from fwpbench.reports.pareto import fronts
from fwpbench.reports.quality_language import PERPLEXITY
from fwpbench.reports.quality_retrieval import SOLVED, is_shown, largest_solved, setting_of, size_of
from fwpbench.reports.quality_translation import BLEU
from fwpbench.reports.quality_trials import Mean, Scored, scores_of
from fwpbench.reports.speed import comparable
from fwpbench.reports.units import between, count, digits, plural, shown

SOFTMAX = "softmax-attention"
#: Names written out in a sentence; the others are counted.
MOST_NAMES = 6


@dataclass(frozen=True)
class Finding:
    """A sentence, and the table it was read from."""

    sentence: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def findings(evidence: Evidence) -> list[Finding]:
    found = (
        fastest(evidence),
        speedup(evidence),
        crossover(evidence),
        most_stored(evidence),
        unbeaten(evidence),
        growing_states(evidence),
        divergence(evidence),
        retrieved(evidence),
        predicted(evidence),
        translated(evidence),
    )
    return [finding for finding in found if finding is not None]


def _ranked_speed(evidence: Evidence) -> list[Case]:
    """In the default domain: what else was timed is shown beside it, and never mixed with it."""
    return [
        case
        for case in evidence.of("speed")
        if evidence.is_ranked(case) and case.value("time") and not case.record.parameters
    ]


def fastest(evidence: Evidence) -> Finding | None:
    """The fastest correct implementation of each named operator, against the next."""
    ranked = _ranked_speed(evidence)
    named = [case for case in ranked if case.record.name] or ranked
    told = varying(named)
    wins: Counter[str] = Counter()
    rows = []
    few = 0
    for same in comparable(named):
        first, others = same[0], same[1:]
        where = " · ".join(filter(None, (evidence.label(first), first.told_by(told))))
        shared_first = bool(others) and _overlap(first, others[0])
        few += any("few-samples" in case.record.tags for case in same[:2])
        wins["(undecided)" if shared_first else first.implementation] += 1
        rows.append((where, first.implementation, _time(first), *_against(first, others)))
    if not rows:
        return None
    wins_said = [
        f"{name} in {number}" for name, number in wins.most_common() if name != "(undecided)"
    ]
    if wins["(undecided)"]:
        wins_said.append(f"undecided in {wins['(undecided)']}, where the intervals overlap")
    sentence = (
        f"Fastest correct implementation, of {plural(len(rows), 'problem')}: {_listed(wins_said)}."
    )
    if few:
        sentence += f" {count(few)} of them rest on few samples: a first look, no more."
    columns = ("Problem", "Fastest", "Median (95 %)", "Next", "Next ÷ fastest")
    return Finding(sentence, columns, rows)


def _against(first: Case, others: Sequence[Case]) -> tuple[str, str]:
    if not others:
        return "no other was timed", "–"
    second = others[0]
    low, high = _ratio(second, first)
    text = f"{_quotient(second, first)} ({digits(low)} – {digits(high)})"
    return second.implementation, f"{text}, undecided" if _overlap(first, second) else text


def speedup(evidence: Evidence) -> Finding | None:
    """The largest gain over the token-by-token reference on one problem."""
    ranked = _ranked_speed(evidence)
    best: tuple[float, Case, Case] | None = None
    for same in comparable(ranked):
        reference = next((case for case in same if case.implementation == "reference"), None)
        if reference is None or same[0] is reference:
            continue
        ratio = (reference.value("time") or 0.0) / (same[0].value("time") or 1.0)
        if best is None or ratio > best[0]:
            best = ratio, same[0], reference
    if best is None:
        return None
    ratio, case, reference = best
    low, high = _ratio(reference, case)
    return Finding(
        f"Largest gain over the reference: {digits(ratio)} × "
        f"(between {digits(low)} and {digits(high)}), {case.implementation} "
        f"on {evidence.label(case)}, {case.words.get('direction', '')}, T = {count(case.tokens)}."
    )


def crossover(evidence: Evidence) -> Finding | None:
    """From which T on an operator's best time stays below softmax attention's."""
    ranked = [c for c in evidence.of("scaling") if evidence.is_ranked(c) and c.value("time")]
    best: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    baseline: dict[str, dict[int, float]] = defaultdict(dict)
    lines: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines_of(ranked, evidence):
        rule = line.cases[0].operator.rule
        lines["" if rule == SOFTMAX else line.label, line.under].append(line)
        times = baseline[line.under] if rule == SOFTMAX else best[line.label, line.under]
        for case in line.cases:
            value = case.value("time") or 0.0
            times[case.tokens] = min(value, times.get(case.tokens, value))
    rows = []
    crossed: dict[int, list[str]] = defaultdict(list)
    for (label, conditions), times in best.items():
        common = sorted(times.keys() & baseline[conditions].keys())
        if not common:
            continue
        slower = [tokens for tokens in common if times[tokens] >= baseline[conditions][tokens]]
        after = [tokens for tokens in common if not slower or tokens > slower[-1]]
        said = f"from T = {count(after[0])} on" if after else f"not up to T = {count(common[-1])}"
        ratio = f"{digits(baseline[conditions][common[-1]] / times[common[-1]])} ×"
        where = " · ".join(filter(None, (label, conditions)))
        first, second = (_fastest_line(lines[name, conditions], common[-1]) for name in (label, ""))
        rows.append((where, said, _crossing(first, second, common[-1]), ratio))
        if after:
            crossed[after[0]].append(where)
    if not rows:
        return None
    told = [
        f"{_listed(names)} from T = {count(tokens)} on" for tokens, names in sorted(crossed.items())
    ]
    sentence = (
        f"Faster than softmax attention, by medians: {'; '.join(told)}."
        if told
        else "No operator became faster than softmax attention at the lengths tried."
    )
    columns = (
        *("Operator", "Faster than softmax attention", "T* of the laws (95 %)"),
        "Gain at the largest T",
    )
    return Finding(sentence, columns, rows)


def _fastest_line(lines: Sequence[Line], tokens: int) -> Line:
    """Of the implementation that is fastest at this T."""
    at = [(case.value("time") or math.inf, line) for line in lines if (case := line.at(tokens))]
    return min(at, key=lambda pair: pair[0])[1]


def _crossing(one: Line, other: Line, most: int) -> str:
    """`740 (610 – 905)`: where the fitted laws cross; a dash where one could not be fitted."""
    points = one.points("time"), other.points("time")
    found = crossover_interval(points[0], points[1], most) if points[0] and points[1] else None
    if found is None:
        return "–"
    beyond = f"> {count(most)}"
    low, at, high = (
        beyond if tokens is None else count(round(tokens))
        for tokens in (found.low, found.tokens, found.high)
    )
    return at if low == high else f"{at} ({low} – {high})"


def most_stored(evidence: Evidence) -> Finding | None:
    """Which operator holds most pairs within the error threshold."""
    measured = [case for case in evidence.of("capacity") if case.value("error") is not None]
    held: dict[str, Case] = {}
    for curve in curves_of(evidence, measured, axis="load"):
        case = most_pairs(curve.cases)
        if case is not None and (pairs_of(case) or 0) > (
            pairs_of(held.get(curve.label, case)) or -1
        ):
            held[curve.label] = case
        elif case is not None:
            held.setdefault(curve.label, case)
    if not held:
        return None
    ordered = sorted(held.items(), key=lambda item: -(pairs_of(item[1]) or 0))
    most = pairs_of(ordered[0][1]) or 0.0
    first = [label for label, case in ordered if (pairs_of(case) or 0) == most]
    rest = [(label, case) for label, case in ordered if (pairs_of(case) or 0) != most]
    verb = "stores" if len(first) == 1 else "store"
    sentence = (
        f"At a relative squared error of at most {100 * THRESHOLD:g} %, "
        f"{_listed(first)} {verb} most of the pairs tried: {count(most)}"
    )
    if rest:
        sentence += f"; next {rest[0][0]} with {count(pairs_of(rest[0][1]) or 0)}"
    rows = [(label, count(pairs_of(c) or 0), digits(load_of(c) or 0)) for label, c in ordered]
    return Finding(f"{sentence}.", ("Operator", "Pairs", "Load n/D"), rows)


def unbeaten(evidence: Evidence) -> Finding | None:
    """Operators that no other beats in quality, time and bytes of state at once."""
    found = fronts(evidence, {})
    said = [
        f"{_listed([one.label for one in front.standings if one.first])} of "
        f"{len(front.standings)} in {front.quality.title}"
        for front in found
    ]
    if not said:
        return None
    rows = [
        (
            one.label,
            front.quality.title,
            digits(one.quality),
            shown(one.state, "B"),
            _time(one.case),
        )
        for front in found
        for one in front.standings
        if one.first
    ]
    columns = ("Operator", "Quality", "Score", "State", "Median (95 %)")
    sentence = f"In quality, time and state at once no other operator beats {'; '.join(said)}."
    return Finding(sentence, columns, rows)


def growing_states(evidence: Evidence) -> Finding | None:
    """Whose state at the largest T is larger than at the smallest."""
    measured = [c for c in evidence.of("memory") if c.value("state") is not None and c.tokens > 0]
    ends: dict[str, tuple[Case, Case]] = {}
    for line in lines_of(measured, evidence):
        first, last = line.cases[0], line.cases[-1]
        if first.tokens == last.tokens:
            continue
        grown = _state(last) > 1.01 * _state(first)
        if grown or line.label not in ends:
            ends[line.label] = first, last
    if not ends:
        return None
    growing = {
        label: pair for label, pair in ends.items() if _state(pair[1]) > 1.01 * _state(pair[0])
    }
    if not growing:
        return Finding(f"No state grows with T ({plural(len(ends), 'operator')} measured).")
    said = [
        f"{label} ({shown(_state(first), 'B')} at T = {count(first.tokens)}, "
        f"{shown(_state(last), 'B')} at {count(last.tokens)})"
        for label, (first, last) in growing.items()
    ]
    constant = len(ends) - len(growing)
    rest = f"; the state of the other {constant} does not" if constant else ""
    return Finding(f"The state grows with T for {_listed(said)}{rest}.")


def divergence(evidence: Evidence) -> Finding | None:
    left = {
        evidence.label(case): f"{evidence.label(case)} (token {count(at)})"
        for case in evidence.of("stability")
        if (at := case.value("diverged at")) is not None
    }
    if left:
        return Finding(f"The state left the finite numbers for {_listed(list(left.values()))}.")
    if any(case.group == "ok" for case in evidence.of("stability")):
        return Finding("No state left the finite numbers over the sequences tried.")
    return None


def retrieved(evidence: Evidence) -> Finding | None:
    """Up to which S a trained model stores every pair, setting by setting."""
    tried = [case for case in evidence.of("retrieval") if is_shown(case)]
    by_setting: dict[int, dict[str, list[Case]]] = defaultdict(lambda: defaultdict(list))
    for case in tried:
        by_setting[setting_of(case)][evidence.label(case)].append(case)
    said, rows = [], []
    for setting, models in sorted(by_setting.items()):
        held = {model: largest_solved(cases) or 0 for model, cases in models.items()}
        most = max(held.values())
        first = [model for model, S in held.items() if most == S]
        sizes = sorted({size_of(case) for cases in models.values() for case in cases})
        of = f"S = {_listed([str(S) for S in sizes])}"
        said.append(
            f"in setting {setting} (of {of}) {_listed(first, quoted=True)} up to S = {most}"
            if most
            else f"in setting {setting} none (of {of})"
        )
        ordered = sorted(held.items(), key=lambda item: -item[1])
        rows += [(model, str(setting), str(S) if S else "none") for model, S in ordered]
    if not said:
        return None
    sentence = f"Trained to a loss of at most {SOLVED:g}: {'; '.join(said)}."
    return Finding(sentence, ("Model", "Setting", "Stored up to S"), rows)


def predicted(evidence: Evidence) -> Finding | None:
    return _best(evidence, PERPLEXITY, "Lowest perplexity")


def translated(evidence: Evidence) -> Finding | None:
    return _best(evidence, BLEU, "Highest BLEU")


def _best(evidence: Evidence, scored: Scored, what: str) -> Finding | None:
    """The model with the best mean over its trials, data set by data set."""
    said, rows = [], []
    for scores in scores_of(evidence, scored):
        means = [(line.curve, line.mean) for line in scores.lines if line.mean is not None]
        if not means:
            continue
        first, mean = means[0]
        told = f"{what} on {scores.data}: {_quoted(first.name)} with {digits(mean.value)}"
        others = [(curve, m) for curve, m in means if curve.operator != first.operator]
        if others:
            second, next_mean = others[0]
            told += f", then {_quoted(second.name)} with {digits(next_mean.value)}"
            told += _undecided(mean, next_mean)
        known = [f"{word.split(':')[0].lower()} {value}" for word, value in scores.baselines]
        said.append(f"{told}; without a model: {', '.join(known)}." if known else f"{told}.")
        rows += [
            (curve.name, curve.implementation, scores.data, digits(m.value), _interval(m))
            for curve, m in means
        ]
    if not said:
        return None
    columns = ("Model", "Implementation", "Data", "Mean", "95 % over trials")
    return Finding(" ".join(said), columns, rows)


def _interval(mean: Mean) -> str:
    return between(mean.low, mean.high) if mean.low is not None else "one trial"


def _undecided(one: Mean, other: Mean) -> str:
    """Says so where the first may not be the best."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return " (one trial says nothing of another: undecided)"
    meet = one.low <= other.high and other.low <= one.high
    return " (their intervals overlap: undecided)" if meet else ""


def _state(case: Case) -> float:
    return case.value("state") or 0.0


def bounds_of(case: Case) -> tuple[float, float]:
    """The interval; where the samples were too few for one, the fastest and slowest of them."""
    value, (low, high) = case.value("time") or 0.0, case.bounds("time")
    if low is not None and high is not None:
        return low, high
    samples = [taken for taken in case.record.samples.get("time", []) if taken is not None]
    return min(samples, default=value), max(samples, default=value)


def _overlap(first: Case, second: Case) -> bool:
    return bounds_of(first)[1] >= bounds_of(second)[0]


def _ratio(slow: Case, fast: Case) -> tuple[float, float]:
    """Bounds of slow ÷ fast from the bounds of both: wider than 95 %."""
    (slow_low, slow_high), (fast_low, fast_high) = bounds_of(slow), bounds_of(fast)
    return slow_low / (fast_high or 1.0), slow_high / (fast_low or fast_high or 1.0)


def _quotient(slow: Case, fast: Case) -> str:
    return f"{digits((slow.value('time') or 0.0) / (fast.value('time') or 1.0))} ×"


def _time(case: Case) -> str:
    low, high = case.bounds("time")
    interval = f" ({between(low, high, 's')})" if low is not None else ""
    return f"{shown(case.value('time'), 's')}{interval}"


def _quoted(name: str) -> str:
    return f"“{name}”" if "," in name else name


def _listed(names: Sequence[str], quoted: bool = False) -> str:
    """`quoted`: a name with a comma inside stands in quotes."""
    names = [_quoted(name) for name in names] if quoted else names
    names = (
        [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} more"]
        if len(names) > MOST_NAMES
        else names
    )
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
