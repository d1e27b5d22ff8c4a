"""`bifocal evaluate`: measures a saved model on labelled or captioned pictures."""

from __future__ import annotations

import typer

from bifocal.cli.compare import compare
from bifocal.cli.contamination import contamination
from bifocal.cli.explain import explain
from bifocal.cli.linear_probe import linear_probe
from bifocal.cli.retrieval import retrieval
from bifocal.cli.suite import suite
from bifocal.cli.zero_shot import templates, zero_shot

app = typer.Typer(no_args_is_help=True, help="Measure models, and compare what was measured.")
app.command("zero-shot")(zero_shot)
app.command("retrieval")(retrieval)
app.command("linear-probe")(linear_probe)
app.command("templates")(templates)
app.command("suite")(suite)
app.command("compare")(compare)
app.command("explain")(explain)
app.command("contamination")(contamination)
