"""The table of docs/speed.md is the one that the recorded figures give."""

import json
import re
from pathlib import Path

import pytest
import typer

from benchmarks.__main__ import app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "speed.md"
RECORDS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
ORDER = ["data", "step", "pretrain", "finetune", "evaluate"]
HEAD = [
    "| benchmark | ours | samples/s | published or plain | ratio | of the limit "
    "| left to the device, ms a sample | rounds | load, cores | commit |",
    "|---|---|---|---|---|---|---|---|---|---|",
]


def table(record: Path) -> list[str]:
    """A line for each of our variants."""
    benches = json.loads(record.read_text(encoding="utf-8"))["benches"]
    return [*HEAD, *(row for name in ORDER if name in benches for row in rows(name, benches[name]))]


def rows(name, bench):
    machine, variants = bench["machine"], bench["variants"]
    published = next(
        (variant for variant in variants.values() if variant["role"] == "published"), None
    )
    for variant_name, variant in variants.items():
        if variant["role"] not in ("ours", "relative"):
            continue
        compared = variant["role"] == "ours"
        share, left = (
            variant["share_of_limit"],
            bench.get("device_ms_per_sample", {}).get(variant_name),
        )
        cells = [
            f"`{name}`",
            variant_name.removeprefix("ours, "),
            spread(variant["samples_per_second"]),
            spread(published["samples_per_second"]) if compared else "-",
            f"{variant['ratio']:.2f}x" if compared else "-",
            "-" if share is None else f"{share:.0%}",
            "-" if left is None else f"{left:.0f}",
            str(len(variant["samples_per_second"]["rounds"])),
            f"{machine['load']}, {machine['cores']}",
            machine["git_commit"][:7],
        ]
        yield f"| {' | '.join(cells)} |"


def spread(rate):
    return f"{rate['median']:.1f} ({rate['min']:.1f} - {rate['max']:.1f})"


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_the_table_is_that_of_the_record(record):
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    expected = table(record)
    places = [i for i, line in enumerate(lines) if line == HEAD[0]]
    found = [lines[i : i + len(expected)] for i in places]
    assert expected in found, "put this into docs/speed.md:\n" + "\n".join(expected)
    assert f"benchmarks/results/{record.name}" in "\n".join(lines)


def test_the_text_on_numerics_is_that_of_the_record():
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    record = ROOT / "benchmarks" / "results" / "cpu-amd-epyc-2-cores.json"
    numerics = json.loads(record.read_text(encoding="utf-8"))["benches"]["numerics"]
    for found in (numerics["differences"]["bf16"], numerics["differences"]["off, another seed"]):
        loss = found["loss"]
        assert f"{100 * loss['mean']:.2f} %" in text
        assert f"{100 * loss['largest']:.2f} %" in text
    assert f"it moved by {100 * numerics['moved']['loss_dense']:.2f} %" in text


def test_the_text_on_memory_is_that_of_the_record():
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    record = ROOT / "benchmarks" / "results" / "cpu-amd-epyc-2-cores.json"
    benches = json.loads(record.read_text(encoding="utf-8"))["benches"]
    growth = max(variant["growth"] for variant in benches["memory"]["variants"].values())
    assert f"Recorded: {100 * growth:.1f} % at most" in text
    assert {variant["samples"][-1] for variant in benches["memory"]["variants"].values()} == {20000}
    cut = benches["finetune"]["cut_ms_per_sample"]
    assert f"`cut_ms_per_sample`): {cut:.1f} ms" in " ".join(text.split())


def test_the_options_of_each_command_are_listed():
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    listed = {
        name: set(re.findall(r"`(--[a-z]+)`", options))
        for name, options in re.findall(r"^\| `(\w+)` \| (`--.*) \|$", text, re.MULTILINE)
    }
    commands = typer.main.get_command(app).commands
    real = {
        name: {one.opts[0] for one in command.params if one.param_type_name == "option"}
        - {"--json"}
        for name, command in commands.items()
    }
    assert listed == real
