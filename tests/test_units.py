"""Quantities: what is read, what is refused and with which hint, and that writing is exact."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collabdesign.design.files.units import (
    BYTE_UNITS,
    BYTES_PATTERN,
    COUNT_PATTERN,
    COUNT_UNITS,
    LARGEST,
    exact_bytes,
    exact_count,
    parse_bytes,
    parse_count,
    shown,
)
from collabdesign.errors import InputError


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("10M", 10 * 1000**2),
        ("320k", 320 * 1000),
        ("1.5k", 1500),
        ("2G", 2 * 1000**3),
        ("10 M", 10 * 1000**2),
        ("42", 42),
        (42, 42),
        (1e6, 1000**2),
        ("1.0005k", 1000),
        (LARGEST, 10**15),
        ("1_000_000", 1_000_000),
        ("3,000,000", 3_000_000),
        ("3.000.000", 3_000_000),
        ("10 000", 10_000),
        ("10'000'000", 10_000_000),
        (".5M", 500_000),
        ("1e6", 1_000_000),
        ("1.5E+3", 1500),
        ("1_024k", 1_024_000),
        ("10\N{NO-BREAK SPACE}M", 10_000_000),
    ],
)
def test_counts(written: object, count: int) -> None:
    assert parse_count(written) == count


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("512KiB", 512 * 1024),
        ("1.2MB", 12 * 1000**2 // 10),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("64kB", 64000),
        ("100B", 100),
        ("100", 100),
        (4096, 4096),
        # 1126.4: no number of bytes lies between it and 1126.
        ("1.1KiB", 1126),
    ],
)
def test_bytes(written: object, size: int) -> None:
    assert parse_bytes(written) == size


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("10m", "write 10M: units are k, M, G"),
        ("320K", "write 320k: units are k, M, G"),
        ("10MB", "MB is a unit of bytes: write 10M for a count"),
        ("512KiB", "KiB is a unit of bytes: write 512k for a count"),
        ("7B", "B is a unit of bytes: write 7 for a count, 7G for billions"),
        ("10 million", "write 10M"),
        ("2,5 billion", "write 2.5G"),
        ("10T", "units are k, M, G"),
        ("M", ""),
        ("1,5M", "write 1.5M"),
        ("1,500M", "write 1500M or 1.500M"),  # either may be meant
        ("0,500M", "write 0.500M"),
        ("3,000", "write 3000 or 3"),
        ("3.000", "write 3000 or 3"),
        ("5.M", "write 5M"),
        ("1e3k", "write 1000k"),
        ("3,00,000", "write 300000"),
        ("1.234.567,8k", "write 1234567.8k"),
        ("1,234.5k", "write 1234.5k"),
        ("1,5MB", "MB is a unit of bytes: write 1.5M for a count"),
        ("-3M", ""),
        ("1e-3", ""),
        ("1__0", ""),
        ("", ""),
        ("0", ""),
        ("0M", ""),
        ("0.0001k", ""),
        ("1.5", ""),
        (1.5, ""),
        (0, ""),
        (-1, ""),
        (True, ""),
        (float("nan"), ""),
        (float("inf"), ""),
        (None, ""),
        ([10], ""),
    ],
)
def test_refused_counts(written: object, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_count(written, "parameters")
    problem = caught.value.problems[0]
    rule = "must be a positive number of parameters such as 10M, got "
    assert problem.message == rule + shown(written)
    assert problem.hint == hint


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("1.2M", "write 1.2MB or 1.2MiB"),
        ("512k", "write 512kB or 512KiB"),
        ("512KB", "write 512kB: units are B, kB, MB, GB, KiB, MiB, GiB"),
        ("1.2mb", "write 1.2MB: units are B, kB, MB, GB, KiB, MiB, GiB"),
        ("3bits", "units are B, kB, MB, GB, KiB, MiB, GiB"),
        ("0KiB", ""),
        ("0.5B", ""),
        (False, ""),
    ],
)
def test_refused_bytes(written: object, hint: str) -> None:
    with pytest.raises(InputError, match=r"^must be a positive number of bytes such as") as caught:
        parse_bytes(written)
    assert caught.value.problems[0].hint == hint


def test_too_large_to_be_meant() -> None:
    with pytest.raises(InputError, match="at most 1000000G, got '1000001G'"):
        parse_count("1000001G")


def test_written_as_a_person_would() -> None:
    counts = {10_000_000: "10M", 1_500: "1.5k", 999: "999", 0: "0", 1_234_567: "1234567"}
    assert {count: exact_count(count) for count in counts} == counts
    sizes = {
        524_288: "512KiB",
        1_200_000: "1.2MB",
        1023: "1.023kB",
        1_234_567: "1234567B",
        7: "7B",
        2**30: "1GiB",
    }
    assert {size: exact_bytes(size) for size in sizes} == sizes


@given(st.integers(1, LARGEST))
def test_what_is_written_reads_back_exactly(value: int) -> None:
    assert parse_count(exact_count(value)) == value
    assert parse_bytes(exact_bytes(value)) == value


@given(st.integers(1, 900_000), st.integers(0, 999), st.sampled_from(["", " "]))
def test_a_decimal_is_a_number_of_thousandths(whole: int, thousandths: int, space: str) -> None:
    text = f"{whole}.{thousandths:03}{space}"
    for unit, size in COUNT_UNITS.items():
        assert parse_count(text + unit) == (whole * 1000 + thousandths) * size // 1000
    for unit, size in BYTE_UNITS.items():
        assert parse_bytes(text + unit) == (whole * 1000 + thousandths) * size // 1000


def grouped(value: int, mark: str) -> str:
    return f"{value:,}".replace(",", mark)


@given(st.integers(10**6, LARGEST), st.sampled_from([",", ".", "_", "'", " ", "\u00a0"]))
def test_a_number_in_groups_is_that_number(value: int, mark: str) -> None:
    assert parse_count(grouped(value, mark)) == parse_bytes(grouped(value, mark)) == value
    few = value % 10**5 + 1000
    if mark in ",.":
        with pytest.raises(InputError) as caught:
            parse_count(grouped(few, mark))
        assert caught.value.problems[0].hint.startswith(f"write {few}")
    else:
        assert parse_count(grouped(few, mark)) == few


@given(st.integers(0, 9999), st.integers(1, 9999), st.sampled_from(["k", "M", "kB", "KiB", "MB"]))
def test_what_a_hint_says_may_be_written(whole: int, decimals: int, unit: str) -> None:
    parse = parse_bytes if unit.endswith("B") else parse_count
    with pytest.raises(InputError) as caught:
        parse(f"{whole},{decimals}{unit}")
    offered = caught.value.problems[0].hint.removeprefix("write ").split(" or ")
    assert offered[-1] == f"{whole}.{decimals}{unit}"
    for each in offered:
        with suppress(InputError):  # less than one is none
            assert parse(each) >= 1


@given(st.text(max_size=12) | st.from_regex(r"\A[0-9.,_' e+]{1,12}[0-9] ?[kKMGiB]{0,3}\Z"))
def test_editors_accept_all_that_is_read(text: str) -> None:
    for parse, pattern in ((parse_count, COUNT_PATTERN), (parse_bytes, BYTES_PATTERN)):
        try:
            parse(text)
        except InputError:
            continue
        assert re.search(pattern, text)


def test_long_values_are_cut_in_messages() -> None:
    assert shown("x" * 1000) == f"'{'x' * 59} ... {'x' * 14}'"
    assert [shown(value) for value in (None, True, "a", 3)] == ["nothing", "true", "'a'", "3"]
