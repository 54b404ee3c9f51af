"""Every command answers before what is slow to import is imported."""

import pytest

from help_tools import check_help, help_of

COMMANDS = {
    "benchmarks.accelerator": "--minutes --data-root",
    "benchmarks.bench": "--curves --quick",
    "benchmarks.bench quality": "--settings",
    "benchmarks.accuracy.bags": "bag",
    "benchmarks.accuracy.coverage": "--frames",
    "benchmarks.node.end_to_end": "--images",
    "benchmarks.accuracy.factor_graph": "--output",
    "benchmarks.accuracy.fusion": "--output",
    "benchmarks.accelerator.tiles": "--dtype",
    "benchmarks.node.latency": "--seconds",
    "benchmarks.accuracy.next_view": "--cameras",
    "benchmarks.training.logit_scale": "--images",
    "benchmarks.node.messages": "--targets",
    "benchmarks.bench.paper_size": "--tolerances",
    "benchmarks.training.partition_estimate": "--reference",
    "benchmarks.accuracy.questions": "--samples",
    "benchmarks.training.recipes": "--minutes",
    "benchmarks.node.soak": "--faults",
    "benchmarks.node.startup": "--runs",
    "benchmarks.accuracy.temporal": "--output",
    "benchmarks.node.viewer": "--seconds --rate",
    "benchmarks.node.wait_until_sure": "--output",
}
"""What is typed, and some of what its help names."""


@pytest.fixture(scope="module")
def answers():
    return help_of(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command, answers):
    check_help(answers[command], COMMANDS[command])
