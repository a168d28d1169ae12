"""Coverage-guided fuzzing: ``python -m soak fuzz-packets | fuzz-sync [--seconds N] [--seed S]``. Needs atheris, that is the extra ``soak``.

The fuzzer ends the process in which it runs, and has to be there before the model is imported: so it gets a process of its own, which is this module
run as a program: ``python -m soak.fuzz TARGET CORPUS [libFuzzer's options]``.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from attrs import frozen

#: the run's last words: executions, edges of the model that were reached, features, inputs kept
DONE: Final = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)/")
FIRST: Final = re.compile(r"#\d+\s+INITED\s+cov: (\d+) ft: (\d+)")
LONGEST: Final = 4096  #: bytes of an input


@frozen
class Outcome:
    """What a run saw: inputs tried, edges and features reached (with the corpus alone: ``first_``), inputs kept because they reached more."""

    executions: int
    first_edges: int
    edges: int
    first_features: int
    features: int
    corpus: int


def run(name: str, seconds: int, seed: int) -> Outcome:
    """Fuzz a target ("packets" or "sync") for so many seconds. Raises RuntimeError, with the input in hex, for whatever goes wrong."""
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch, "corpus")
        corpus.mkdir()
        options = [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={LONGEST}", f"-artifact_prefix={scratch}/", "-timeout=60", "-rss_limit_mb=0"]
        fuzzer = subprocess.run([sys.executable, "-m", "soak.fuzz", name, str(corpus), *options], stderr=subprocess.PIPE, text=True, check=False)
        outcome = read(fuzzer.stderr)
        if fuzzer.returncode or outcome is None:
            found = "".join(f"\n{path.name}: {path.read_bytes().hex()}" for path in Path(scratch).iterdir() if path.is_file())
            raise RuntimeError(f"{fuzzer.stderr[-5000:]}{found}")
    return outcome


def read(said: str) -> Outcome | None:
    """What the fuzzer printed; None: it did not come to its end."""
    first, done = FIRST.search(said), DONE.search(said)
    if first is None or done is None:
        return None
    executions, edges, features, kept = map(int, done.groups())
    return Outcome(executions, int(first[1]), edges, int(first[2]), features, kept)


def _fuzz(name: str, corpus: str, options: list[str]) -> None:
    """Write the corpus and never return."""
    import atheris

    with atheris.instrument_imports(include=["ipvs_model"]):
        from soak import targets

    fuzzed = targets.FUZZED[name]
    seeds = fuzzed.corpus()
    for number, data in enumerate(seeds):
        Path(corpus, f"{number:04}").write_bytes(data)

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        rng = random.Random(seed)
        changed = fuzzed.mutate(rng, data, seeds) if rng.random() < 0.5 else atheris.Mutate(data, longest)
        return changed[:longest]

    atheris.Setup(["fuzz", corpus, *options], fuzzed.target(), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    _fuzz(sys.argv[1], sys.argv[2], sys.argv[3:])
