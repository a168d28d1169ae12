"""A sample of each long run; ``make soak`` makes them whole."""

import pytest
from soak.__main__ import main
from soak.malformed import Run
from soak.mutation import truncations

from ipvs_model.flags import Hook
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.packet import Packet
from ipvs_model.transmit.action import REASONS
from soak import control, fuzz, malformed, sync, targets

KINDS = tuple(Run(0).traffic.makers)


def test_malformed_packets_break_no_invariant():
    outcome = malformed.run(500, seed=7, every=1)
    assert outcome.packets == 500
    assert set(outcome.reasons) <= set(REASONS)
    assert {"forwarded", "translated", "no connection", "no service", "icmp unrelated", "short header"} <= set(outcome.reasons)
    assert outcome.emitted > 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_packet_cut_off_anywhere_passes_every_hook(kind):
    soak = Run(KINDS.index(kind))
    for version in (4, 6):
        whole = soak.traffic.makers[kind](version).raw[:150]
        for raw in truncations(whole):
            for hook in Hook:
                action = soak.directors[0].run_hook(hook, Packet.parse(raw, device="eth0"))
                assert action.reason in REASONS
        check(soak.directors[0].ns)


def test_all_timers_run_out_and_leave_nothing():
    soak = Run(11)
    for _ in range(300):
        soak.step()
    assert any(ipvs.ns.conn_count for ipvs in soak.everyone)
    soak.run_out()
    soak.check()
    for ipvs in soak.everyone:
        assert (ipvs.ns.conn_count, len(ipvs.ns.conns), ipvs.ns.trash.dests) == (0, 0, [])


def test_mutated_sync_datagrams_make_no_entry_that_the_specification_does_not_allow():
    outcome = sync.run(500, seed=3)
    assert (outcome.datagrams, outcome.entries > 0, -2 in outcome.codes) == (500, True, True)


def test_a_refused_command_changes_nothing():
    outcome = control.run(200, seed=5)
    assert 50 < outcome.refused < 190
    assert {name.split()[0] for name in outcome.errors} >= {"new_service", "set_dest", "config", "sysctl"}


def test_a_story_is_taken_apart_as_it_was_put_together():
    steps = [(3, b""), (0x45, b"x" * 300), (0, b"y")]
    assert targets.split(targets.join(steps)) == steps
    assert targets.split(targets.join(steps)[:-1]) == [*steps[:2], (0, b"")]


@pytest.mark.parametrize(("name", "count"), [("packets", 300), ("sync", 2000)])
def test_what_is_fuzzed_takes_its_corpus_and_mutations_of_it(name, count):
    targets.replay(name, count, seed=5)


def test_a_target_finds_a_packet_that_raises(monkeypatch):
    monkeypatch.setattr(IPVS, "receive", lambda self, packet, hook: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        targets.replay("packets", 0, seed=1)


def test_what_the_fuzzer_says_at_its_ends_is_understood():
    said = "#200\tINITED cov: 1900 ft: 4657 corp: 190/100Kb exec/s: 0 rss: 90Mb\n#21850\tDONE   cov: 2743 ft: 8740 corp: 574/1105Kb lim: 4096 exec/s: 35 rss: 99Mb\n"
    assert fuzz.read(said) == fuzz.Outcome(21850, 1900, 2743, 4657, 8740, 574)
    assert fuzz.read("Uncaught Python exception") is None


def test_the_command_line_says_what_a_run_saw(capsys):
    assert main(["control", "--count", "20", "--seed", "2"]) == 0
    assert capsys.readouterr().out.startswith("control: 20, seed 2: nothing wrong\n  commands: 20\n")


def test_a_run_that_finds_something_names_the_packet(monkeypatch, capsys):
    monkeypatch.setattr(IPVS, "run_hook", lambda self, hook, packet: 1 / 0)
    assert main(["malformed", "--count", "10"]) == 1
    assert "division by zero" in capsys.readouterr().err
