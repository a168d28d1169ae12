"""Pictures and tables of the state machines, taken apart again and compared with the protocols' own tables."""

import re
from xml.etree import ElementTree

import pytest

from ipvs_model.protocols import sctp, tcp
from ipvs_model.tools.states import DIRECTIONS, as_mermaid, as_svg, as_text, machine

MACHINES = {"tcp": machine("tcp"), "tcp, secure": machine("tcp", secure=True), "sctp": machine("sctp"), "udp": machine("udp")}


@pytest.fixture(params=MACHINES.values(), ids=MACHINES)
def shown(request):
    return request.param


def test_tcp_text_holds_the_lines_of_the_table():
    text = as_text(machine("tcp"), DIRECTIONS)
    for cells in tcp.NORMAL.values():
        for event, line in cells.items():
            assert f"  {event}  {line}\n" in text


def test_secure_tcp_is_another_table():
    assert "  syn  SR  ES  ES  SR  SR  SR  SR  SR  SR  SR  SA\n" in as_text(machine("tcp", secure=True), ["INPUT"])


def test_sctp_cells_are_those_of_the_protocol():
    for direction, table in zip(DIRECTIONS, sctp.TABLES, strict=True):
        for event, cells in table:
            assert machine("sctp").rows[direction][event.name] == tuple(cells)


def test_text_names_every_state_with_its_timeout(shown):
    text = as_text(shown, DIRECTIONS)
    for state in shown.states:
        assert re.search(rf" {re.escape(state.name)} +{state.timeout} s  {'active' if state.active else 'inactive'}\n", text)


def test_mermaid_has_an_arrow_for_each_pair_of_states_and_no_other(shown):
    arrows = re.findall(r"^    (\w\w) --> (\w\w): ", as_mermaid(shown, DIRECTIONS), re.MULTILINE)
    assert len(arrows) == len(set(arrows))
    assert {(shown.codes.index(a), shown.codes.index(b)) for a, b in arrows} == set(shown.edges(DIRECTIONS))


def test_svg_is_well_formed_and_has_an_arrow_for_each_pair_and_direction(shown):
    svg = ElementTree.fromstring(as_svg(shown, DIRECTIONS))
    groups = svg.findall("{http://www.w3.org/2000/svg}g")
    assert len(groups) == sum(len(shown.edges([direction])) for direction in DIRECTIONS)
    words = "".join(svg.itertext())
    assert all(state.name in words for state in shown.states)


def test_a_chosen_direction_stands_alone():
    assert "OUTPUT" not in as_text(machine("tcp"), ["INPUT"]).replace("INPUT", "")
    assert "OUTPUT" not in as_svg(machine("tcp"), ["INPUT"])


def test_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match="no state machine for 'icmp'"):
        machine("icmp")
