"""A model kept in a file between calls of the command line: the journal of everything that was done with it.

The model is deterministic, so doing the same again gives the same model: connections, timers, counters, order of lists. Nothing has to be taken apart and put
together, and nothing can be forgotten. The file is JSON: an object with `journal` (the version of this format), `kernel` (the modelled kernel), `environment`
and `done`, a list of ["ipvsadm", [arguments], standard input], ["advance", jiffies], ["packet", text] and ["fail", errno, number].
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from ipvs_model.control import Control
from ipvs_model.errors import IPVSError
from ipvs_model.flags import KERNEL_VERSION
from ipvs_model.ipvs import IPVS, Outcome
from ipvs_model.ipvsadm import Result, run
from ipvs_model.netns import Environment
from ipvs_model.tools.packet_text import parse_packet

VERSION: Final = 1
ENVIRONMENT: Final = ("hz", "start_jiffies", "timers", "seed", "hash_seed", "tab_bits")  #: what of an Environment is kept
#: commands that only read are not written down
LISTING: Final = re.compile(r"-[LlSvh]|--(list|save|version|help)")


class JournalError(ValueError):
    """The file is no journal, or one that this version cannot do again; the text says which."""


class Refusing:
    """Control calls of a kernel that lists what there is and refuses to change it."""

    def __init__(self, control: Control, code: int) -> None:
        self.control = control
        self.code = code

    def __getattr__(self, name: str) -> Any:
        return getattr(self.control, name) if name.startswith("get_") else self._refuse

    def _refuse(self, *unused: object) -> None:
        raise IPVSError(self.code)


class Journal:
    """The model in a journal file; a file that does not exist yet is a fresh model.

    Changes are in memory until `save`. Opening does everything again: O(operations). Raises JournalError, OSError.
    """

    def __init__(self, path: str | Path, environment: Environment | None = None) -> None:
        self.path = Path(path)
        self.environment = environment or Environment()
        self.done: list[list[Any]] = []
        if self.path.exists() and self.path.stat().st_size:
            self._read()
        self.ipvs = IPVS(self.environment)
        self.failures: dict[int, int] = {}  #: runs of ipvsadm still to come → errno
        known: dict[str, Callable[..., object]] = {"ipvsadm": self._ipvsadm, "advance": self.ipvs.clock.advance, "packet": self._packet, "fail": self._fail}
        for number, (what, *arguments) in enumerate(self.done, 1):
            if what not in known:
                raise JournalError(f"{self.path}: operation {number} is {what!r}, which this version does not know")
            known[what](*arguments)

    def _read(self) -> None:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            version, kernel, kept, self.done = stored["journal"], stored["kernel"], stored["environment"], stored["done"]
            if version == VERSION:
                self.environment = Environment(**kept)
        except (ValueError, KeyError, TypeError) as wrong:
            raise JournalError(f"{self.path}: this is no journal of a model ({wrong})") from wrong
        if version != VERSION:
            raise JournalError(f"{self.path}: journal version {version}; this version reads {VERSION}")
        if kernel != KERNEL_VERSION:
            raise JournalError(f"{self.path}: it was made with a model of Linux {kernel}; this one is {KERNEL_VERSION}")

    def ipvsadm(self, arguments: Sequence[str], stdin: str = "") -> Result:
        """Run an ipvsadm command on the model and write it down if it may change something."""
        if not arguments or LISTING.match(arguments[0]):
            return self.ipvs.ipvsadm(arguments, stdin)
        self.done.append(["ipvsadm", list(arguments), stdin])
        return self._ipvsadm(arguments, stdin)

    def _ipvsadm(self, arguments: Sequence[str], stdin: str) -> Result:
        code = self.failures.pop(1, None)
        self.failures = {left - 1: code for left, code in self.failures.items()}
        if code is None:
            return self.ipvs.ipvsadm(arguments, stdin)
        return run(Refusing(self.ipvs.control, code), self.ipvs.proc, arguments, stdin)  # type: ignore[arg-type]

    def fail(self, code: int, nth: int = 1) -> None:
        """Let the nth run of ipvsadm from now on, listings not counted, be refused with an errno and change nothing."""
        self.done.append(["fail", code, nth])
        self._fail(code, nth)

    def _fail(self, code: int, nth: int) -> None:
        self.failures[nth] = code

    def packet(self, text: str) -> Outcome:
        """Let a packet arrive that is given as a text. Raises PacketTextError."""
        outcome = self._packet(text)
        self.done.append(["packet", text])
        return outcome

    def _packet(self, text: str) -> Outcome:
        return self.ipvs.receive(parse_packet(text))

    def advance(self, jiffies: int) -> int:
        """Let time pass; how many timers fired."""
        fired: int = self.ipvs.clock.advance(jiffies)
        if self.done and self.done[-1][0] == "advance":
            self.done[-1][1] += jiffies
        else:
            self.done.append(["advance", jiffies])
        return fired

    def save(self) -> None:
        """Write the file, whole or not at all."""
        kept = {name: getattr(self.environment, name) for name in ENVIRONMENT}
        text = json.dumps({"journal": VERSION, "kernel": KERNEL_VERSION, "environment": kept, "done": self.done}, indent=1)
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(text + "\n", encoding="utf-8")
        os.replace(beside, self.path)

    @classmethod
    @contextmanager
    def open(cls, path: str | Path) -> Iterator[Self]:
        """The journal, for this process alone until the block ends; saved if the block does not raise."""
        with _locked(Path(path)):
            journal = cls(path)
            before = json.dumps(journal.done)
            yield journal
            if json.dumps(journal.done) != before:
                journal.save()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes out, where the system has file locks: tools call ipvsadm several times at once."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield
        return
    with open(path.with_name(path.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
