"""Models by their name on the hub: fetched from a small hub on this machine, or refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mechshift_lib.cli.files.hub import model_folder
from mechshift_lib.errors import ConfigError
from tests.support.command import entry, make_folder
from tests.support.hub import COMMIT, small_hub


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def hub(root: Path) -> Iterator[tuple[str, list[str]]]:
    with small_hub(root / "model") as found:
        yield found


def call(home: Path, address: str, *arguments: object) -> tuple[int, str, str]:
    """A call in a process of its own, as the hub's address is read when its client is imported."""
    script = "from mechshift_lib.cli.files.hub import model_folder as m; import sys\n"
    script += (
        "from mechshift_lib.errors import MechshiftError\n"
        "try:\n    print(m(sys.argv[1], *(sys.argv[2:] or [None])))\n"
        "except MechshiftError as error:\n    sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home), "HF_TOKEN": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def test_a_model_is_fetched_once_and_used_without_the_hub(
    root: Path, hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = hub
    code, folder, said = call(tmp_path, address, "someone/tiny")
    assert code == 0, said
    assert said == f"mechshift: someone/tiny is taken at commit {COMMIT}."
    for name in ("config.json", "model.safetensors"):
        assert (Path(folder) / name).read_bytes() == (root / "model" / name).read_bytes()
    before = [path for path in asked if path.endswith(".safetensors")]
    assert before
    assert call(tmp_path, address, f"someone/tiny@{COMMIT}") == (0, folder, "")
    assert [path for path in asked if path.endswith(".safetensors")] == before
    code, again, said = call(tmp_path, "http://127.0.0.1:9", "someone/tiny")
    assert (code, again) == (0, folder)
    assert said.startswith("mechshift: The hub can't be reached")
    assert said.endswith(f"{COMMIT}.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody/nothing",), ("no folder 'nobody/nothing'", "private", "hf auth login")),
        (("nobody/gated",), ("is gated", "accept its terms", "HF_TOKEN")),
        (("nobody/broken",), ("doesn't give nobody/broken", "try again")),
        (("someone/tiny", "v9"), ("no revision 'v9'",)),
        (("someone/pickled",), ("no safetensors", "pickle")),
        (("someone/a--b",), ("is no name of the hub",)),
    ],
)
def test_what_the_hub_does_not_give(
    hub: tuple[str, list[str]], tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    code, out, err = call(tmp_path, hub[0], *arguments)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1, err
    assert all(word in err for word in words), err


def test_without_a_network_the_way_out_is_said(tmp_path: Path) -> None:
    code, _, err = call(tmp_path, "http://127.0.0.1:9", "someone/tiny")
    assert code == 1
    assert "can't be reached" in err
    assert "hf download someone/tiny --local-dir FOLDER" in err


def test_a_model_that_does_not_fit_is_refused_before_it_is_fetched(
    hub: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from mechshift_lib.cli.files import hub as module
    from mechshift_lib.errors import ModelError

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    large = SimpleNamespace(rfilename="model.safetensors", size=15 * 10**9)
    with pytest.raises(ModelError, match=r"15\.0 GB of weights .* room for 1\.0 GB"):
        module._check_files("someone/large", [large])


def test_folders_stay_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    inside = Path(root.name) / "model"  # has the form of a hub's name
    assert model_folder(inside) == inside
    with pytest.raises(ConfigError, match="leave it out"):
        model_folder(inside, "main")
    with pytest.raises(ConfigError, match="one of them"):
        model_folder("someone/tiny@main", "main")


def test_a_command_takes_the_hubs_name(
    root: Path, hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "x.json").write_text(json.dumps([entry(0)]))
    command = [
        *(sys.executable, "-m", "mechshift_lib.cli", "attribute", "--model", "someone/tiny"),
        *("--revision", COMMIT, "--examples", "x.json", "--out", "s.json", "--method", "eap"),
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "HF_ENDPOINT": hub[0], "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert (done.returncode, done.stdout) == (0, "Wrote s.json\n"), done.stderr
