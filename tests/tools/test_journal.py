"""The ipvsadm and clock of the command line, with the model in a file."""

import json

import pytest
from click.testing import CliRunner

from ipvs_model.tools.commands import clock, fail, ipvsadm, packet
from ipvs_model.tools.journal import Journal, JournalError


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state.json"


@pytest.fixture
def run(state):
    def run(command, *arguments, stdin=""):
        return CliRunner().invoke(command.command, ["--state", str(state), *arguments], input=stdin)

    return run


def test_rules_are_there_in_the_next_call(run):
    assert run(ipvsadm, "-A", "-t", "192.0.2.1:80", "-s", "rr").exit_code == 0
    assert run(ipvsadm, "-a", "-t", "192.0.2.1:80", "-r", "10.1.0.11:8080", "-m").exit_code == 0
    listing = run(ipvsadm, "-Ln")
    assert listing.exit_code == 0
    assert "TCP  192.0.2.1:80 rr" in listing.stdout and "10.1.0.11:8080" in listing.stdout


def test_restore_reads_standard_input(run):
    assert run(ipvsadm, "-R", stdin="-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.1.0.11:8080 -m -w 3\n").exit_code == 0
    assert run(ipvsadm, "-S", "-n").stdout == "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.1.0.11:8080 -m -w 3\n"


def test_errors_have_ipvsadms_status_and_words(run):
    done = run(ipvsadm, "-D", "-t", "192.0.2.1:80")
    assert (done.exit_code, done.stderr) == (255, "No such service\n")


def test_time_passes_only_when_told(run, state):
    run(ipvsadm, "-A", "-t", "192.0.2.1:80")
    before = Journal(state).ipvs.clock.now
    assert run(clock, "advance", "60").exit_code == 0
    assert run(clock, "advance", "--jiffies", "3").exit_code == 0
    assert Journal(state).ipvs.clock.now == before + 60 * 250 + 3
    assert "jiffies" in run(clock, "show").stdout


def test_listing_and_showing_write_nothing_down(run, state):
    run(ipvsadm, "-A", "-t", "192.0.2.1:80")
    before = state.read_text()
    for arguments in (["-L"], ["-Ln"], ["-S", "-n"], ["--list"], []):
        run(ipvsadm, *arguments)
    run(clock, "show")
    assert state.read_text() == before


def test_the_journal_makes_the_same_model_again(state):
    with Journal.open(state) as journal:
        journal.ipvsadm(["-A", "-t", "192.0.2.1:80", "-s", "wrr"])
        journal.advance(1000)
        journal.ipvsadm(["-a", "-t", "192.0.2.1:80", "-r", "10.1.0.11", "-w", "2"])
        journal.ipvsadm(["--set", "10", "20", "30"])
        journal.ipvsadm(["-a", "-t", "192.0.2.9:80", "-r", "10.1.0.11"])  # refused, and refused again
        journal.advance(7)
        journal.advance(8)
        listing, timeouts, now = journal.ipvs.ipvsadm("-Ln"), journal.ipvs.ipvsadm("-L", "--timeout"), journal.ipvs.clock.now
    again = Journal(state)
    assert (again.ipvs.ipvsadm("-Ln"), again.ipvs.ipvsadm("-L", "--timeout"), again.ipvs.clock.now) == (listing, timeouts, now)
    assert again.done[-1] == ["advance", 15]


def test_the_nth_command_fails_as_told_and_changes_nothing(run):
    assert run(fail, "ENOMEM", "--nth", "2").exit_code == 0
    assert run(fail, "EEXIST", "--nth", "4").exit_code == 0
    assert run(ipvsadm, "-A", "-t", "192.0.2.1:80", "-s", "rr").exit_code == 0
    assert run(ipvsadm, "-Ln").exit_code == 0
    refused = run(ipvsadm, "-a", "-t", "192.0.2.1:80", "-r", "10.1.0.11", "-m")
    assert (refused.exit_code, refused.stderr) == (255, "Memory allocation problem\n")
    assert "10.1.0.11" not in run(ipvsadm, "-Ln").stdout
    assert run(ipvsadm, "-a", "-t", "192.0.2.1:80", "-r", "10.1.0.11", "-m").exit_code == 0
    assert run(ipvsadm, "-C").exit_code == 255
    assert "10.1.0.11" in run(ipvsadm, "-Ln").stdout


def test_an_unknown_errno_is_refused(run, state):
    done = run(fail, "ENOTHING")
    assert done.exit_code == 2 and "is no errno" in done.stderr
    assert not state.exists()


def test_packets_are_counted_and_forgotten_when_the_clock_moves(run):
    run(ipvsadm, "-A", "-t", "192.0.2.1:80", "-s", "rr")
    run(ipvsadm, "-a", "-t", "192.0.2.1:80", "-r", "10.1.0.11:8080", "-m")
    syn = "tcp 203.0.113.7:40000 > 192.0.2.1:80 S"
    assert run(packet, syn).stdout == "sent to its real server; tcp 203.0.113.7:40000 > 10.1.0.11:8080 S ttl=63\n"
    assert "Masq    1      1          0" in run(ipvsadm, "-Ln").stdout
    run(clock, "advance", "70")
    assert "Masq    1      0          0" in run(ipvsadm, "-Ln").stdout


def test_what_is_no_packet_is_refused_with_all_that_came_with_it(run, state):
    run(ipvsadm, "-A", "-t", "192.0.2.1:80", "-s", "rr")
    before = state.read_text()
    done = run(packet, "tcp 203.0.113.7:40000 > 192.0.2.1:80 S", "tcp nonsense")
    assert done.exit_code == 1 and "is no packet" in done.stderr
    assert state.read_text() == before


def test_a_failing_block_leaves_the_file_as_it_was(state):
    with Journal.open(state) as journal:
        journal.advance(1)
    before = state.read_text()
    with pytest.raises(KeyError), Journal.open(state) as journal:
        journal.advance(1)
        raise KeyError
    assert state.read_text() == before


GOOD = {"journal": 1, "kernel": "6.12.115", "environment": {}, "done": []}


@pytest.mark.parametrize(
    "content,words",
    [
        ("not json", "no journal of a model"),
        ("{}", "no journal of a model"),
        (json.dumps(GOOD | {"environment": {"colour": "red"}}), "no journal of a model"),
        (json.dumps(GOOD | {"journal": 2}), "journal version 2"),
        (json.dumps(GOOD | {"kernel": "5.10"}), "a model of Linux 5.10"),
        (json.dumps(GOOD | {"done": [["dance"]]}), "operation 1 is 'dance'"),
    ],
)
def test_files_that_are_no_journal_are_refused(run, state, content, words):
    state.write_text(content)
    with pytest.raises(JournalError, match=words):
        Journal(state)
    done = run(ipvsadm, "-Ln")
    assert done.exit_code == 1 and words in done.stderr
    assert state.read_text() == content
