"""`bifocal plan`: what a training run costs, before anything is bought."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bifocal.cli.figures import write_figures
from bifocal.cli.plan_table import plan_table, total_line
from bifocal.errors import ConfigError
from bifocal.model import zoo
from bifocal.optim.statistics import Statistics
from bifocal.precision import Precision
from bifocal.settings import merge, parse_override
from bifocal.train.config import RunConfig
from bifocal.train.cost import Setup, days, flops, pairs_per_second, parameters, setup_of
from bifocal.train.footprint import footprint, largest_chunk
from bifocal.train.rehearsal import DeviceType
from bifocal.train.stages import Stage, foresee, load_stages
from bifocal.train.trial import achieved
from bifocal.world import World, pick_device

PAPER = {"data": {"train": "", "batch_size": 32_768}, "train": {"epochs": 32}}
"""Settings of a plan that is given no recipe."""
GIGA, TERA = 1e9, 1e12


@dataclass(frozen=True, slots=True)
class Rate:
    """Where a device's operations a second come from."""

    tflops: float | None
    utilisation: float | None
    measure: bool

    def __post_init__(self) -> None:
        if self.measure and (self.tflops or self.utilisation):
            raise ConfigError("--measure finds the rate itself: leave --tflops and --utilisation")
        if self.utilisation is not None and self.tflops is None:
            raise ConfigError("--utilisation is a share of the peak: give that as --tflops")
        if self.tflops is not None and not self.tflops > 0:
            raise ConfigError(f"--tflops {self.tflops}: expected a number above 0, as 400")
        if self.utilisation is not None and not 0 < self.utilisation <= 1:
            raise ConfigError(f"--utilisation {self.utilisation}: expected a share, as 0.4")

    def find(self, config: RunConfig, length: int) -> float | None:
        """Return the rate, or None where nothing was said of it."""
        if self.measure:
            return achieved(config, length, World(device=pick_device(config.train.device)))
        return self.tflops and self.tflops * TERA * (self.utilisation or 1.0)


def plan(
    model: Annotated[
        str, typer.Argument(help="A name that `bifocal models` lists, or a recipe's TOML file.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings on top: model.image_size=336.", metavar="KEY=VALUE…"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pairs of a step, over all devices.")
    ] = None,
    devices: Annotated[int, typer.Option(help="Devices that share the batch.")] = 1,
    chunk_size: Annotated[
        int | None, typer.Option(help="Pairs that a device reads at a time; 0 for its whole part.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(help="Tokens of a caption, on average; else the context.")
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Of the towers' products.")] = None,
    statistics: Annotated[Statistics | None, typer.Option(help="Of AdamW's averages.")] = None,
    gradient_checkpointing: Annotated[
        bool | None,
        typer.Option("--gradient-checkpointing/--no-gradient-checkpointing", help="In all blocks."),
    ] = None,
    pairs: Annotated[float | None, typer.Option(help="Of the data set, as 400e6.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Times that they are read.")] = None,
    tflops: Annotated[
        float | None,
        typer.Option(help="10¹² operations a second of a device: achieved, or its peak."),
    ] = None,
    utilisation: Annotated[
        float | None,
        typer.Option(help="Share of --tflops that is achieved, repeated operations counted."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time a few real steps on this machine instead.")
    ] = False,
    memory: Annotated[
        float | None, typer.Option(help="GB of a device: says the largest chunk that fits.")
    ] = None,
    device: Annotated[
        DeviceType, typer.Option(help="By whose rules autocast chooses what stays in float32.")
    ] = "cuda",
    output: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file.")
    ] = None,
) -> None:
    """Count the parameters, FLOPs, memory and days of a training run."""
    for option, value in (("--pairs", pairs), ("--memory", memory)):
        if value is not None and not value > 0:
            raise ConfigError(f"{option} {value}: expected a number above 0")
    rate = Rate(tflops, utilisation, measure)
    given = {
        "data": {"batch_size": batch_size},
        "optim": {"statistics": statistics},
        "train": {
            "chunk_size": chunk_size,
            "precision": precision,
            "gradient_checkpointing": gradient_checkpointing,
            "epochs": epochs,
        },
    }
    runs = _runs(model, overrides or [], given)
    if epochs is not None and any(config.train.steps is not None for _, config in runs):
        raise ConfigError("--epochs does not count where train.steps is set: give that instead")
    console, planned = Console(), []
    for title, config in runs:
        setup = setup_of(config, devices=devices, length=length, device=device)
        found = rate.find(config, setup.towers.length)
        figures = {
            "model": title,
            "setup": _setup(setup),
            "parameters": asdict(parameters(setup.towers)),
            **_amounts(setup, memory, found, _pairs(config, pairs)),
        }
        console.print(plan_table(figures))
        planned.append(figures)
    whole = planned[0]
    if len(planned) > 1:
        whole = {"model": model, "stages": planned, "time": _total([f["time"] for f in planned])}
        console.print(total_line(whole["time"]), highlight=False)
    if output is not None:
        write_figures(whole, output)


def _setup(setup: Setup) -> dict[str, Any]:
    table: dict[str, Any] = asdict(setup)
    table |= {"local": setup.local, "chunks": setup.chunks}
    table["towers"]["model"] = setup.towers.model.model_dump(mode="json")
    return table


def _amounts(
    setup: Setup, memory: float | None, rate: float | None, pairs: float | None
) -> dict[str, dict[str, Any]]:
    """Return FLOPs, memory and time; `memory` in GB, `rate` in FLOPs a second."""
    counted, held = flops(setup), footprint(setup)
    speed = None if rate is None else pairs_per_second(setup, counted, rate)
    space = None if memory is None else memory * GIGA
    return {
        "flops": asdict(counted) | {"total": counted.total},
        "memory": asdict(held)
        | {
            "peak": held.peak,
            "device": space,
            "largest_chunk": None if space is None else largest_chunk(setup, space),
        },
        "time": {
            "flops_per_second": rate,
            "pairs_per_second": speed,
            "pairs": pairs,
            "days": None if speed is None or pairs is None else days(pairs, speed),
        },
    }


def _runs(
    model: str, overrides: list[str], given: dict[str, dict[str, Any]]
) -> list[tuple[str, RunConfig]]:
    """Return the runs of a recipe, or that of a named architecture, each with what it is called."""
    said = {
        f"{section}.{key}": value
        for section, options in given.items()
        for key, value in options.items()
        if value is not None
    }
    overrides = [*overrides, *(f"{key}={json.dumps(value)}" for key, value in said.items())]
    if Path(model).suffix == ".toml":
        stages = load_stages(Path(model), overrides)
        return [(s.origin, config) for s, config in zip(stages, foresee(stages), strict=True)]
    zoo.config(model)  # names the nearest
    table = merge(PAPER, {"model": {"preset": model}})
    for override in overrides:
        table = merge(table, parse_override(override))
    (config,) = foresee([Stage(table, model, 1, 1)])
    return [(model, config)]


def _total(times: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the pairs and days of all stages, None where those of any are not known."""
    return {
        key: None if any(time[key] is None for time in times) else sum(time[key] for time in times)
        for key in ("pairs", "days")
    }


def _pairs(config: RunConfig, pairs: float | None) -> float | None:
    """Return the pairs that the whole run reads, where it is known."""
    if config.train.steps is not None:
        return float(config.train.steps * config.data.batch_size)
    if pairs is not None and config.train.epochs is not None:
        return pairs * config.train.epochs
    return None
