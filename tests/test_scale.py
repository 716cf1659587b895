"""docs/scale.md and the script that computes its tables."""

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def scale(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, DOCS / "scale.py", *options], capture_output=True, text=True, check=False)


def rows(*options: str) -> list[list[str]]:
    """The cells of all rows that the script prints, heads included."""
    done = scale(*options)
    assert done.returncode == 0, done.stderr
    return [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]


def row(*begin: str, options: str = "", which: int = 0) -> list[str]:
    """What follows `begin` in a row that begins so: in the first one, or another."""
    return [cells for cells in rows(*options.split()) if tuple(cells[: len(begin)]) == begin][which][len(begin) :]


def test_the_page_has_the_tables_that_the_script_prints() -> None:
    page = (DOCS / "scale.md").read_text(encoding="utf-8")
    _, found, rest = page.partition("<!-- tables: python docs/scale.py -->\n")
    tables, end, _ = rest.partition("<!-- end -->\n")
    assert found
    assert end
    assert tables == scale().stdout


def test_every_table_has_as_many_cells_in_each_row_as_in_its_head() -> None:
    for block in scale().stdout.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


@pytest.mark.parametrize(
    ("calls", "each", "expected"),
    [
        # 10^6 / 86,400 * 3 = 34.72/s; * 20 s = 694.4; 1.58 + 500 * 5.92 / 50 = 60.78 ms each; / 0.7 and / 70.
        ("1,000,000", "stream, 20 s", ["34.72", "694.4", "2.11", "993 (> 250)", "10"]),
        ("1,000,000", "call, 2 s", ["34.72", "69.4", "0.05", "100", "1"]),
        ("100,000,000", "stream, 20 s", ["3,472.22", "69,444.4", "211.04", "99,207 (> 1,000)", "993 (> 250)"]),
        ("10,000", "call, 2 s", ["0.35", "0.7", "0.00", "1", "1"]),
    ],
)
def test_instances_at_peak(calls: str, each: str, expected: list[str]) -> None:
    assert row(calls, each) == expected


def test_cpu_decides_where_it_needs_more_instances_than_concurrency_does() -> None:
    # 2.110 cores / (0.25 * 0.7) = 12.1.
    assert row("1,000,000", "stream, 20 s", options="--memory-mb 512")[-1] == "13"
    # 694.4 / 700 = 1 by concurrency; 2.110 / 0.7 = 3.01 by CPU, also on two cores, of which one process uses one.
    assert row("1,000,000", "stream, 20 s", options="--concurrency 1000")[-1] == "4"
    assert row("1,000,000", "stream, 20 s", options="--concurrency 1000 --memory-mb 4096")[-1] == "4"
    assert row("1,000,000", "stream, 20 s", options="--concurrency 1000 --memory-mb 4096 --processes 2")[-1] == "2"


def test_what_an_instance_carries() -> None:
    # 0.7 / 1.58 ms, 0.7 / 60.78 ms, and that times 20 s; 2,048 - 167.
    assert row("2,048") == ["1", "443", "11.5", "230", "1,881"]
    # 0.25 * 0.7 = 0.175 of a core.
    assert row("512") == ["0.25", "111", "2.9", "58", "345"]


def test_costs_of_a_month() -> None:
    # Alone, each call is billed: 10^6 * 20 s * 2 GB * 30 days * 0.000026 + 30 * 0.40.
    # Sharing, 231.5 in flight on average need 4 instances, always active: 4 * 86,400 s * 2 GB * 30 days.
    alone, shared, cost_alone, cost_shared = row("1,000,000", "stream, 20 s", which=1)
    assert (alone, shared) == ("1,200,000,000", "20,736,000")
    assert (cost_alone, cost_shared) == ("31,212.00", "551.14")
    # 0.2315 in flight on average keep one instance active for 1 - e^-0.2315 = 20.67 % of the time.
    assert row("10,000", "call, 2 s", which=1)[1] == "1,071,235"
    assert "costs 20.74 a month" in scale().stdout


def test_a_call_of_less_than_a_second_is_billed_as_one() -> None:
    billed = row("10,000", "call, 0.1 s", options="--seconds-per-call 0.1", which=1)[0]
    # 10,000 * 1 s * 2 GB * 30 days.
    assert billed == "600,000"


def test_tokens_a_minute() -> None:
    assert row("1,000,000", which=-1) == ["694,444", "2,083,333"]


@pytest.mark.parametrize(
    "options",
    [
        "--cpu-ms-per-call 2",
        "--cpu-ms-per-stream 20",
        "--chunks-measured 40",
        "--process-mib 200",
        "--cores 2048=2",
        "--memory-mb 4096",
        "--processes 2",
        "--default-instances 50",
        "--quota-cores 500",
        "--max-instances 2000",
        "--concurrency 1 16",
        "--utilisation 0.5",
        "--calls-a-day 5000",
        "--seconds-per-call 3",
        "--seconds-per-stream 30",
        "--chunks-per-stream 1000",
        "--peak 5",
        "--tokens-per-call 2000",
        "--price-per-gb-second 0.00003",
        "--price-per-million-calls 0.5",
        "--price-per-ready-gb-second 0.000005",
    ],
)
def test_each_option_counts(options: str) -> None:
    done = scale(*options.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout != scale().stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--calls-a-day 0", "argument --calls-a-day: '0' is not a whole number greater than 0"),
        ("--calls-a-day 1000 -5", "argument --calls-a-day: '-5' is not a whole number greater than 0"),
        ("--concurrency 1.5", "argument --concurrency: '1.5' is not a whole number greater than 0"),
        ("--seconds-per-call -2", "argument --seconds-per-call: '-2' is not a number greater than 0"),
        ("--price-per-gb-second 0", "argument --price-per-gb-second: '0' is not a number greater than 0"),
        ("--utilisation nan", "argument --utilisation: 'nan' is not a number greater than 0"),
        ("--utilisation 1.1", "argument --utilisation: more than 1"),
        ("--peak inf", "argument --peak: 'inf' is not a number greater than 0"),
        ("--peak 0.5", "argument --peak: less than 1"),
        ("--cores 2048", "argument --cores: '' is not a number greater than 0"),
        ("--memory-mb 1024", "argument --memory-mb: --cores names no size of 1024 MB"),
        ("--cpu-ms-per-stream 1", "argument --cpu-ms-per-stream: less than --cpu-ms-per-call"),
        ("--calls 5 --unknown 1", "unrecognized arguments: --unknown"),
    ],
)
def test_bad_options_are_refused(options: str, message: str) -> None:
    done = scale(*options.split())
    assert done.returncode == 2
    assert message in done.stderr
    assert not done.stdout
