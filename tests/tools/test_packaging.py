"""The package as others meet it: a core that needs two libraries, types that a consumer's mypy --strict accepts, a contract that holds every room."""

import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import ipvs_model

ROOT = Path(__file__).parents[2]
SOURCE = Path(ipvs_model.__file__).parents[1]
EXTRAS = ("tools", "testing", "adapters")  #: rooms that may need more than the core

#: with -I -S nothing but the standard library is on the path; the two dependencies are linked into a directory of their own
IMPORT_CORE = """
import importlib, pkgutil, sys
sys.path[:0] = sys.argv[1:]
import ipvs_model
skipped = {skipped!r}
for module in pkgutil.walk_packages(ipvs_model.__path__, "ipvs_model."):
    if module.name.split(".")[1] not in skipped:
        importlib.import_module(module.name)
        print(module.name)
third = {{name.partition(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names) - {{"__main__", "__mp_main__"}}
assert third <= {{"ipvs_model", "attr", "attrs", "sortedcontainers"}}, third
"""

CONSUMER = """
from ipvs_model import IPVS, Dest, Packet, Scheduler, Service, Verdict
from ipvs_model.packet import IpHdr

ipvs = IPVS()
web = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="wlc")
ipvs.add_dest(web, "10.1.0.11:8080", forward="masq", weight=3)
syn: Packet = Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "S")
out = ipvs.receive(syn)
verdict: Verdict = out.verdict
reason: str = out.reason.code
raw: list[bytes] = [packet.raw for packet in out.emitted]
fired: int = ipvs.clock.advance(seconds=63)
twin: IPVS = ipvs.fork()


class Newest(Scheduler):
    name = "newest"

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        return svc.destinations[0] if svc.destinations else None


mine = IPVS(plugins=[Newest])
print(verdict, reason, raw, fired, twin, mine)
"""


def test_core_imports_with_attrs_and_sortedcontainers_alone(tmp_path):
    for name in ("attr", "attrs", "sortedcontainers"):
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None
        (tmp_path / name).symlink_to(Path(spec.origin).parent)
    code = IMPORT_CORE.format(skipped=EXTRAS)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(tmp_path), str(SOURCE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ipvs_model.datapath" in done.stdout.split()


def test_command_line_says_what_to_install_when_the_extra_is_missing(tmp_path):
    (tmp_path / "attr").symlink_to(Path(find_spec("attr").origin).parent)
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(SOURCE)!r}]; from importlib.machinery import PathFinder\n"
    code += "import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
    module = SOURCE / "ipvs_model" / "tools" / "command_line.py"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(module)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "ipvs-model: click is not installed; the command line needs: pip install 'ipvs_model[cli]'"


def test_a_consumer_passes_mypy_strict(tmp_path):
    (tmp_path / "consumer.py").write_text(CONSUMER)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n")
    # the package is found as an installed one, so py.typed counts and the project's own settings do not
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "consumer.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "Success: no issues found in 1 source file", done.stdout + done.stderr


def test_core_dependencies_are_attrs_and_sortedcontainers():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(line.split(">=")[0] for line in project["dependencies"]) == ["attrs", "sortedcontainers"]


def test_py_typed_is_shipped():
    assert (SOURCE / "ipvs_model" / "py.typed").exists()


def test_every_file_that_is_not_python_is_shipped():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["ipvs_model"]
    others = {path for path in (SOURCE / "ipvs_model").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others == {path for pattern in patterns for path in (SOURCE / "ipvs_model").glob(pattern)}
