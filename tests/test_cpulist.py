"""Lists of CPUs. What one CPU makes of 55 texts is recorded in `tests/kernel/fresh/estimator_restarts`."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.cpulist import format_cpulist, parse_cpulist
from ipvs_model.errors import IPVSError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2", "2"),
        ("0-1,3", "0-1,3"),
        ("3,0-1", "0-1,3"),
        (" 0\t2 , 3\n7", "0,2-3"),
        ("all", "0-7"),
        ("ALL", "0-7"),
        ("N", "7"),
        ("4-N", "4-7"),
        ("0-7:1/2", "0,2,4,6"),
        ("1-7:2/3", "1-2,4-5,7"),
        ("all:0/1", ""),
        ("all:3/3", "0-7"),
        ("00", "0"),
        (",", ""),
        (" ", ""),
        ("\n0", ""),
    ],
)
def test_lists_of_eight(text, shown):
    assert format_cpulist(parse_cpulist(text, 8)) == shown


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x", errno.EINVAL),
        ("n", errno.EINVAL),
        ("-1", errno.EINVAL),
        ("+0", errno.EINVAL),
        ("0-", errno.EINVAL),
        ("0-x", errno.EINVAL),
        ("0-1-2", errno.EINVAL),
        ("3-1", errno.EINVAL),
        ("3-9,x", errno.ERANGE),
        ("9-8,9", errno.EINVAL),
        ("0:1/1", errno.EINVAL),
        ("0-1:1/0", errno.EINVAL),
        ("0-1:2/1", errno.EINVAL),
        ("0-1:1", errno.EINVAL),
        ("0-1:1/", errno.EINVAL),
        ("allx", errno.EINVAL),
        ("0;1", errno.EINVAL),
        ("8", errno.ERANGE),
        ("4-8", errno.ERANGE),
        ("4294967295", errno.EINVAL),
        ("4294967296", errno.EOVERFLOW),
        ("0-4294967296", errno.EOVERFLOW),
        ("99999999999x", errno.EOVERFLOW),
        ("1,99999999999", errno.EOVERFLOW),
    ],
)
def test_what_is_refused(text, error):
    with pytest.raises(IPVSError) as refused:
        parse_cpulist(text, 8)
    assert refused.value.errno == error


@given(st.sets(st.integers(0, 63)))
def test_what_is_shown_can_be_written(cpus):
    assert parse_cpulist(format_cpulist(cpus), 64) == cpus


@given(st.text("0123459-,:/Nalx \n", max_size=12), st.integers(1, 8))
def test_any_text(text, cpus):
    try:
        found = parse_cpulist(text, cpus)
    except IPVSError as refused:
        assert refused.errno in (errno.EINVAL, errno.ERANGE, errno.EOVERFLOW)
    else:
        assert found <= set(range(cpus))
