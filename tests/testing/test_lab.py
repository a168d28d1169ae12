"""The lab: tests that read as conversations, and say what went wrong; and the plugin that hands it out."""

import pytest

from ipvs_model import IPVS
from ipvs_model.testing.lab import Lab

pytest_plugins = ["pytester"]


@pytest.fixture
def lab():
    return Lab()


def test_half_close_is_forgotten_after_a_minute(lab):
    lab.service("rr", "A").established(at=1)
    lab.client("FA", at=2).goes_to("A").state("CLOSE_WAIT", 60)
    lab.server("PA", at=50).leaves_from("192.0.2.1:80")
    lab.server("PA", at=175).leaves_untranslated()


def test_delete_is_not_drain(lab):
    lab.service("rr", "A").established(at=1).counts("A", 1, 0)
    lab.server_deleted("A").server_added("B")
    lab.client("PA", at=2).dropped()
    lab.server_added("A").counts("A", 1, 0)
    lab.client("PA", at=4).goes_to("A")


def test_refused_and_fallen_through(lab):
    lab.service("rr", "A").server_edited("A", weight=0)
    lab.client("S").refused()
    lab.client("PA").falls_through()


def test_several_clients(lab):
    lab.service("rr", "A", "B").established(port=1).established(port=2)
    lab.client("PA", port=1).goes_to("B")
    lab.client("PA", port=2).goes_to("A")
    lab.counts("A", 1, 0).counts("B", 1, 0)


def test_udp_sctp_and_direct_routing():
    lab = Lab().service("rr", "A", protocol="udp")
    lab.client("DATA").goes_to("A").state("UDP", 300)
    lab = Lab().service("rr", "A", protocol="sctp")
    lab.client("INIT").goes_to("A").state("INIT1", 4)
    lab = Lab().service("rr", "A", forward="direct")
    lab.client("S").goes_to("A").state("SYN_RECV", 60)


def test_sysctls_and_a_given_director():
    lab = Lab(IPVS()).sysctl("sloppy_tcp", 1).service("rr", "A")
    lab.client("A").goes_to("A").state("ESTABLISHED", 900)


def test_a_server_by_name(lab):
    lab.service("rr", "A", "B").established()
    lab.server("PA", name="A").leaves_untranslated()
    lab.server("PA", name="B").leaves_from("192.0.2.1:80")


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        (lambda said: said.goes_to("A"), "did not go to A: sent to its real server"),
        (lambda said: said.refused(), "was not refused"),
        (lambda said: said.dropped(), "was not dropped"),
        (lambda said: said.falls_through(), "did not fall through"),
        (lambda said: said.leaves_untranslated(), "did not leave as it came"),
        (lambda said: said.leaves_from("192.0.2.1:80"), "did not leave from 192.0.2.1:80"),
        (lambda said: said.state("CLOSE"), "left its connection in SYN_RECV, not CLOSE"),
        (lambda said: said.state("SYN_RECV", 59), "left its connection 60 s, not 59 s"),
    ],
)
def test_what_does_not_hold_is_told_with_the_decisions(lab, claim, told):
    lab.service("rr", "A", "B")
    with pytest.raises(AssertionError, match=told) as caught:
        claim(lab.client("S", at=3))
    assert "at 3 s" in str(caught.value)
    assert "ip_vs_schedule: rr chose 10.1.0.12:80" in str(caught.value)


def test_wrong_counts_are_told(lab):
    lab.service("rr", "A")
    with pytest.raises(AssertionError, match="A is 0/0 at 0 s, not 1/0"):
        lab.counts("A", 1, 0)


def test_no_connection_is_told(lab):
    lab.service("rr", "A")
    with pytest.raises(AssertionError, match="has no connection, should be in ESTABLISHED"):
        lab.client("A").state("ESTABLISHED")


def test_misuse_is_loud(lab):
    with pytest.raises(ValueError, match="no service yet"):
        lab.server_added("A")
    lab.service("rr", "A")
    with pytest.raises(ValueError, match="reached no server"):
        lab.server("SA")
    with pytest.raises(ValueError, match="called A to Z"):
        lab.server_added("AA")
    lab.at(5)
    with pytest.raises(ValueError, match="time cannot go back"):
        lab.at(4)


def test_the_plugin_hands_out_fresh_ones(pytester):
    pytester.makeconftest("from ipvs_model.testing.plugin import ipvs, lab")
    pytester.makepyfile(
        """
        def test_lab(lab, ipvs):
            assert lab.ipvs is ipvs
            lab.service("rr", "A").established()

        def test_fresh(ipvs):
            assert not ipvs.services
        """
    )
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=2)
