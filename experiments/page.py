"""docs/claims.md: a section a claim, and a table of verdicts above them.

A section stands between markers with its line of the table inside, so that one claim that was run
again replaces its own part and leaves the others as they were.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.claim import WEAK, Claim, Comparison, Mean, Measure, mean_of

HEAD = """# The paper's claims, re-run

What Radford et al. 2021 ([arXiv 2103.00020](https://arxiv.org/abs/2103.00020)) claim of CLIP, tried
again with models of a minute or two on two CPU cores. That is about a millionth of the paper's
training: a claim that fails here may hold at its size, and the other way round. Written by
`make claims` (`python -m experiments`; sizes in `recipes/claims/two_cores.toml`, for one GPU in
`recipes/claims/one_gpu.toml`); every run, figure and verdict follows from them.

**The rule.** A comparison is a difference between two kinds of runs, paired by seed: the same
seed means the same order of the data and, where shapes agree, the same first weights. Its interval
is 95 %, by Student's t over the seeds. *Reproduced*: the whole interval lies where the paper would
have the difference: above zero (for ratios, above one) or a stated bound; for "no difference",
within a stated bound either way. The direction is tested, not the paper's number.
*Not reproduced at this size*: the whole interval lies outside. *Too weak to tell*: neither, or
fewer than three seeds. A claim of several comparisons is reproduced if all are, *reproduced in
part* if only some are. "Seeds needed" is the least number whose interval would decide, were mean
and spread to stay as they are. All bounds were set before the runs.

The intervals are over trainings; all runs of a claim share their test pictures. They know nothing
of what a share can be, and may reach below zero. Of twenty such intervals one misses its truth by
chance.
"""
TABLE = ["| claim | paper | verdict here |", "|---|---|---|"]
_SECTION = re.compile(
    r"<!-- claim (?P<name>\w+)\n(?P<row>[^\n]*)\n-->\n(?P<text>.*?)<!-- end of claim -->\n",
    re.DOTALL,
)


def write_page(path: Path, claims: Iterable[Claim], order: Sequence[str]) -> None:
    """Write the page: these claims anew, the others as they stand there.

    Args:
        path: of the page; it need not exist.
        claims: that were run.
        order: of all names.
    """
    old = path.read_text("utf-8") if path.exists() else ""
    parts = {one["name"]: (one["row"], one["text"]) for one in _SECTION.finditer(old)}
    parts |= {claim.name: (_row(claim), section(claim)) for claim in claims}
    known = [name for name in order if name in parts]
    rows = [parts[name][0] for name in known]
    bodies = [
        f"<!-- claim {name}\n{parts[name][0]}\n-->\n{parts[name][1]}<!-- end of claim -->\n"
        for name in known
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEAD, *TABLE, *rows, "", *bodies]), "utf-8")


def section(claim: Claim) -> str:
    """Return a claim's section."""
    lines = [f"## {claim.title}", "", f"**{_capital(claim.verdict)}.**{_seeds(claim)}", ""]
    lines += [f"*Paper, {claim.where}.* {claim.paper}", "", f"*Here.* {claim.here}", ""]
    lines += ["| difference | paper | here (95 % interval) | verdict |", "|---" * 4 + "|"]
    for one in claim.comparisons:
        needed = _needed(one) if one.verdict == WEAK else ""
        lines.append(f"| {one.what} | {one.paper} | {difference(one)} | {one.verdict}{needed} |")
    lines += ["", f"![{claim.figure}](images/claims_{claim.name}.png)", "", *_arms(claim.measures)]
    lines += ["", *([claim.note, ""] if claim.note else [])]
    lines += [f"*A size that could tell.* {claim.larger}", ""]
    lines += [f"`{claim.command}` ({claim.effort})", ""]
    return "\n".join(lines) + "\n"


def difference(one: Comparison) -> str:
    """Return the mean difference with its interval and unit."""
    mean = one.mean
    if math.isnan(mean.value):
        return "not measured"
    if one.unit == "times":
        mean = Mean(*(2**value for value in (mean.value, mean.low, mean.high)))
        shown = f"{mean.value:.2g} ({mean.low:.2g} – {mean.high:.2g}) times"
    else:
        digits = 3 if one.unit == "nats" else 2
        bounds = f"{mean.low:+.{digits}f} … {mean.high:+.{digits}f}"
        shown = f"{mean.value:+.{digits}f} ({bounds}) {one.unit}"
    return f"{shown}; a bound, since some runs end before" if one.censored else shown


def _arms(measures: Sequence[Measure]) -> list[str]:
    names = list(dict.fromkeys(arm for one in measures for arm in one.values))
    lines = ["| | " + " | ".join(one.name for one in measures) + " |"]
    lines.append("|---" * (len(measures) + 1) + "|")
    for arm in names:
        lines.append(f"| {arm} | " + " | ".join(_cell(one, arm) for one in measures) + " |")
    return lines


def _cell(measure: Measure, arm: str) -> str:
    values = measure.values.get(arm, ())
    if not values:
        return ""
    if any(map(math.isnan, values)):
        return f"not reached by {sum(map(math.isnan, values))} of {len(values)} seeds"
    mean, digits = mean_of(values), measure.decimals
    if len(values) < 2 or mean.low == mean.high:
        return f"{mean.value:,.{digits}f}"
    return f"{mean.value:,.{digits}f} ({mean.low:,.{digits}f} – {mean.high:,.{digits}f})"


def _row(claim: Claim) -> str:
    anchor = re.sub(r"[^\w\- ]", "", claim.title.lower()).replace(" ", "-")
    return f"| [{claim.title}](#{anchor}) | {claim.where} | {claim.verdict} |"


def _seeds(claim: Claim) -> str:
    counts = sorted({len(one.values) for one in claim.comparisons if one.values})
    return f" {' or '.join(map(str, counts))} seeds an arm." if counts else ""


def _needed(one: Comparison) -> str:
    if len(one.values) < 3 or one.mean.low == one.mean.high:
        return ""
    needed = one.seeds_needed()
    return f" (seeds needed: {needed or 'more than 100'})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
