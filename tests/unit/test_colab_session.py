"""What a Colab session keeps, what it gets, and when it must be restarted."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mechshift_lib import colab
from mechshift_lib.config import ROOT

#: What Colab's runtime 2026.01 has of what the library needs, and its own kernel.
LINES = (ROOT / "tests/colab/runtime-2026.01.txt").read_text(encoding="utf-8").splitlines()
PRESENT = dict(line.split("==") for line in LINES if line and not line.startswith("#"))
WANTED = colab.requirements()
BOOK = colab.book_versions()


def lines_of(short: list[Requirement], kept: set[str]) -> dict[str, SpecifierSet]:
    found = [Requirement(line) for line in colab.bounds(short, PRESENT, BOOK, kept)]
    assert len({line.name for line in found}) == len(found)
    return {line.name: line.specifier for line in found}


def test_what_colab_has_of_compiled_packages_satisfies_the_project() -> None:
    short = {requirement.name for requirement in colab.missing(WANTED, PRESENT)}
    assert not short & {*colab.COMPILED, "scipy", "scikit-learn", "pyarrow", "ipykernel"}
    assert "nnsight" in short
    assert "transformers" in short


def test_what_is_in_use_stays_and_what_is_new_comes_as_the_book_had_it() -> None:
    short = colab.missing(WANTED, PRESENT)
    lines = lines_of(short, {*colab.COMPILED, "requests", "transformers"})
    for name in ("torch", "numpy", "pandas", "matplotlib", "requests"):
        assert str(lines[name]) == f"=={PRESENT[name]}"
    assert str(lines["nnsight"]) == f"=={BOOK['nnsight']}"
    # It is in use, but the project can't do with it: it moves, and a restart will be asked for.
    assert str(lines["transformers"]) == f"=={BOOK['transformers']}"


def test_what_is_neither_stays_between_the_session_and_the_book() -> None:
    lines = lines_of(colab.missing(WANTED, PRESENT), set(colab.COMPILED))
    for name, present, book in (("rich", PRESENT["rich"], BOOK["rich"]),):
        assert lines[name].contains(present)
        assert lines[name].contains(book)
        assert not lines[name].contains("999")


def test_a_kernel_is_installed_only_where_there_is_none() -> None:
    without = {name: version for name, version in PRESENT.items() if name != "ipykernel"}
    assert "ipykernel" in {r.name for r in colab.missing(WANTED, without)}
    assert "ipykernel" not in {r.name for r in colab.missing(WANTED, PRESENT)}


def test_an_old_torch_is_refused_in_one_sentence() -> None:
    with pytest.raises(colab.SessionError, match=r"torch is 2\.1\.0 .*: choose a newer runtime"):
        colab.missing(WANTED, {**PRESENT, "torch": "2.1.0"})


def test_the_environment_of_the_tests_lacks_nothing() -> None:
    assert colab.missing(WANTED, colab.installed()) == []


def test_imported_names_are_traced_to_their_distributions() -> None:
    found = colab.imported(["yaml.loader", "sklearn", "os", "no_such_module"])
    assert found == {"pyyaml", "scikit-learn"}


def test_only_packages_in_use_that_changed_ask_for_a_restart() -> None:
    before = {"requests": "1", "numpy": "2", "peft": "1"}
    after = {"requests": "2", "numpy": "2", "peft": "2", "nnsight": "1"}
    used = {"requests", "numpy", "nnsight"}
    assert colab.replaced(before, after, used) == ["requests"]


class Session:
    """A session whose pip only notes what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, codes: list[int], used: set[str]) -> None:
        self.versions = dict(PRESENT)
        self.asked: list[str] = []
        self.codes = codes
        monkeypatch.setattr(colab, "installed", lambda: dict(self.versions))
        monkeypatch.setattr(colab, "imported", lambda: used)
        monkeypatch.setattr(colab, "install_weights", lambda root: None)
        monkeypatch.setattr(colab, "_pip", self.pip)

    def pip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.asked.append(Path(arguments[1]).read_text(encoding="utf-8"))
        code = self.codes.pop(0)
        if code == 0:
            self.versions |= {"transformers": BOOK["transformers"], "requests": BOOK["requests"]}
        return subprocess.CompletedProcess(
            [], code, "", "ERROR: no such set of versions.\nERROR: x"
        )


def test_where_nothing_in_use_moves_the_notebook_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(monkeypatch, [0], {"numpy"})
    colab.prepare(str(tmp_path / "kept"))
    assert len(session.asked) == 1
    assert "is ready" in capsys.readouterr().out
    assert (tmp_path / "kept").is_dir()


def test_where_something_in_use_must_move_a_restart_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = Session(monkeypatch, [1, 0], {"requests", "torch"})
    with pytest.raises(
        colab.RestartError, match=r"^Restart the session .*: requests had"
    ) as raised:
        colab.prepare(str(tmp_path))
    assert raised.value._render_traceback_() == [str(raised.value)]
    first, second = (text.splitlines() for text in session.asked)
    assert f"requests=={PRESENT['requests']}" in first
    assert f"requests=={PRESENT['requests']}" not in second
    assert f"torch=={PRESENT['torch']}" in first
    assert f"torch=={PRESENT['torch']}" in second


def test_where_pip_finds_no_way_its_reason_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Session(monkeypatch, [1, 1], set())
    with pytest.raises(colab.SessionError, match=r"\(no such set of versions\): take a fresh"):
        colab.prepare(str(tmp_path))


def test_a_folder_in_the_drive_has_the_drive_opened_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = []
    drive = types.SimpleNamespace(mount=opened.append)
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(drive=drive))
    monkeypatch.setattr(colab, "DRIVE", tmp_path / "drive")
    folder = colab.open_folder(str(tmp_path / "drive" / "MyDrive" / "mine"))
    assert opened == [str(tmp_path / "drive")]
    assert folder.is_dir()
    colab.open_folder(str(tmp_path / "elsewhere"))
    assert len(opened) == 1


def test_a_folder_that_takes_no_results_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(colab.SessionError, match=r"file/results \(.*\): name another folder"):
        colab.open_folder(str(tmp_path / "file" / "results"))


def test_it_needs_nothing_but_packaging_to_be_imported() -> None:
    script = (
        "import sys; before = set(sys.modules); import mechshift_lib.colab\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "sys.exit(', '.join(new - {'mechshift_lib', 'packaging'} - sys.stdlib_module_names) or 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
