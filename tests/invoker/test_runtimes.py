"""What this machine offers, and what is looked at to find out."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from invoker.backends import runtimes


@pytest.fixture
def site(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site-packages folder that hides no other."""
    folder = run_dir / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def install(site: Path, name: str, files: list[str], requires: tuple[str, ...] = ()) -> None:
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    lines = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {line}" for line in requires)]
    (info / "METADATA").write_text("\n".join(lines))
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{info.name}/METADATA"]))
    for file in files:  # since Python 3.12 what is listed counts only where it is
        if not file.startswith(".."):
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).touch()


def test_every_package_of_a_distribution_and_of_what_it_requires(site: Path) -> None:
    install(
        site,
        "fallow-alpha",
        ["alpha/__init__.py", "alpha/sub/x.py", "alpha.libs/libx.so", "../../bin/alpha", "__pycache__/one.pyc"],
        ("fallow_beta[fast] (>=1)", "fallow-windows; sys_platform == 'win32'", "fallow-test>=2; extra == 'dev'"),
    )
    install(site, "fallow_beta", ["beta.py"], ("fallow-alpha",))  # a circle ends
    install(site, "fallow-test", ["test_tools/__init__.py"])
    found = runtimes.library_packages(["fallow-alpha"])
    assert found == [site / name for name in ("alpha", "alpha.libs", "beta.py")]
    assert runtimes.library_packages(["fallow-alpha", "fallow-absent"]) is None


def test_kinds_and_links(run_dir: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "fallow-alpha", ["alpha/__init__.py"])
    monkeypatch.setattr(runtimes, "LIBRARIES", ("fallow-alpha",))
    for _ in range(2):  # what an earlier invoker left is no hindrance
        found = runtimes.find_runtimes(run_dir)
    plain = {"python:3", f"python:{sys.version_info.major}.{sys.version_info.minor}"}
    assert plain | {"python:3-libs"} <= set(found)
    folder = run_dir / runtimes.LIBRARIES_FOLDER
    assert found["python:3-libs"].path == (str(folder),)
    assert {link.name: link.readlink() for link in folder.iterdir()} == {"alpha": site / "alpha"}
    assert all(found[kind].path == () for kind in plain)
    runtimes.forget_runtimes(run_dir)
    assert not folder.exists()
    monkeypatch.setattr(runtimes, "LIBRARIES", ("fallow-absent",))
    assert "python:3-libs" not in runtimes.find_runtimes(run_dir)
    assert not folder.exists()


def test_the_libraries_are_those_of_the_extra() -> None:
    lines = importlib.metadata.requires("fallow") or []
    extra = {line.split(">")[0].lower() for line in lines if "extra ==" in line and "functions" in line}
    assert extra == set(runtimes.LIBRARIES)


def place_node(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    program = folder / "bin" / "node"
    program.parent.mkdir(exist_ok=True)
    program.write_text(text)
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(program.parent))


@pytest.mark.parametrize(
    "text",
    [
        "#!/nowhere\n",
        "#!/bin/sh\nexit 1\n",
        "#!/bin/sh\necho v20.0.0\n",
        '#!/bin/sh\necho \'["/usr/bin/node", "seventeen", "9"]\'\n',
        '#!/bin/sh\necho \'["/usr/bin/node", "17.9.1", "9"]\'\n',
        "#!/bin/sh\necho '3'\n",
    ],
    ids=["no interpreter", "fails", "no JSON", "no number", "old", "no list"],
)
def test_a_node_that_cannot_be_used_is_logged_and_not_offered(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    said: list[str] = []
    monkeypatch.setattr(runtimes.log, "warning", lambda event, **fields: said.append(fields["error"]))
    place_node(run_dir, monkeypatch, text)
    assert runtimes.find_nodejs(run_dir) == {}
    assert len(said) == 1
    assert str(run_dir / "bin" / "node") in said[0]


def test_the_node_of_the_path_is_asked_once_what_it_is(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place_node(
        run_dir, monkeypatch, '#!/bin/sh\n[ -z "$NODE_OPTIONS" ] && echo \'["/real/node", "22.1.0", "30720"]\'\n'
    )
    monkeypatch.setenv("NODE_OPTIONS", "--title=x")
    [(kind, runtime)] = runtimes.find_nodejs(run_dir).items()
    assert kind == "nodejs:22"
    assert runtime.program is not None
    program = runtime.program(256)
    assert (program[0], Path(program[-1]).is_file()) == ("/real/node", True)
    assert runtime.margin_mb == 30 + runtimes.NODE_MARGIN_MB
    heap = {mb: [flag for flag in runtime.program(mb) if "old-space" in flag] for mb in (1, 256, 1024)}
    assert heap == {
        1: ["--max-old-space-size=16"],
        256: ["--max-old-space-size=184"],
        1024: ["--max-old-space-size=928"],
    }
    monkeypatch.setenv("PATH", str(run_dir))
    monkeypatch.setattr(sys, "executable", str(run_dir / "bin" / "python"))
    monkeypatch.delenv("NODE_OPTIONS")
    assert list(runtimes.find_nodejs(run_dir)) == ["nodejs:22"], "beside the interpreter"
    monkeypatch.setattr(sys, "executable", str(run_dir / "python"))
    assert runtimes.find_nodejs(run_dir) == {}
