"""Test the arithmetic of docs/scale.py, and that docs/scale.md has its tables."""

import pytest

from docs.scale import Load, capacity, instances, text
from tests.support.processes import PROJECT

CALL = Load(1_000_000, seconds=2, tokens=500)
STREAM = Load(1_000_000, seconds=20, tokens=2000, streamed=True)


def test_the_page_has_the_tables_that_the_script_prints() -> None:
    page = (PROJECT / "docs" / "scale.md").read_text(encoding="utf-8")
    _, begin, rest = page.partition("<!-- tables: python docs/scale.py -->\n")
    tables, end, _ = rest.partition("\n<!-- end -->\n")
    assert begin
    assert end
    assert tables == text([])


def test_a_call_takes_cpu_time_and_a_stream_more_for_each_chunk() -> None:
    assert CALL.cpu_seconds == pytest.approx(0.004)
    # 4.0 ms and, for each of 20 * 25 chunks, 5.92 / 50 = 0.1184 ms.
    assert STREAM.cpu_seconds == pytest.approx(0.0632)


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        # 10^6 / 86,400 * 3 = 34.72/s; * 2 s = 69.4; / 0.7 = 99.2; / 70 = 0.99; 34.72 * 4.0 ms / 0.7 = 0.20.
        (CALL, [34.72, 69.4, 100, 1, 1]),
        # 34.72/s * 20 s = 694.4; / 0.7 = 992.1; / 70 = 9.9; 34.72 * 63.2 ms / 0.7 = 3.1.
        (STREAM, [34.72, 694.4, 993, 10, 4]),
        # 8,640 * 1 / 86,400 = 0.1/s; * 7 s = 0.7, which is exactly the 0.7 of one instance.
        (Load(8640, seconds=7, tokens=1, peak=1), [0.1, 0.7, 1, 1, 1]),
    ],
)
def test_the_number_of_instances_is_for_the_peak(load: Load, expected: list[float]) -> None:
    assert list(instances(load, 100).values()) == expected


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        # 34.72/s * 60 = 2,083.3 requests; * 500 = 1,041,667 tokens: the requests decide.
        (CALL, [2083, 1_041_667, 2084]),
        # 2,083.3 * 2,000 = 4,166,667 tokens: the tokens decide.
        (STREAM, [2083, 4_166_667, 4167]),
        # 1,440 * 1 / 1,440 minutes = 1 request, of 1,000 tokens: both fill one unit.
        (Load(1440, seconds=1, tokens=1000, peak=1), [1, 1000, 1]),
    ],
)
def test_the_model_capacity_is_for_the_peak(load: Load, expected: list[float]) -> None:
    assert list(capacity(load).values()) == expected


def test_the_options_describe_the_loads() -> None:
    options = "--calls-a-day 86400 --seconds 3 40 --tokens 100 4000 --peak 2 --concurrency 10"
    first, *_, last = [line for line in text(options.split()).splitlines() if line.startswith("| 86,400 |")]
    # 2/s * 3 s = 6; / 0.7 = 8.6; / 7 = 0.9; 2 * 4.0 ms / 0.7 = 0.01.
    assert first == "| 86,400 | call, 3 s, 100 tokens | 2.0 | 6.0 | 9 | 1 | 1 |"
    # 2/s * 60 = 120 requests; * 4,000 = 480,000 tokens.
    assert last == "| 86,400 | stream, 40 s, 4,000 tokens | 120 | 480,000 | 480 |"
