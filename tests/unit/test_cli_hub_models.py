"""Models by their name on the hub: fetched from a small hub on this machine, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from mechshift_lib.cli.files.hub import model_folder
from mechshift_lib.errors import ConfigError, ModelError
from tests.support.command import assert_refused, call, entry, make_folder
from tests.support.small_hub import COMMIT, small_hub


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("hub"))


#: No server listens here.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def hub(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, list[str]]]:
    """The small hub, at whose address the client looks, and with a cache that is empty."""
    with small_hub(root / "model") as (address, asked):
        files = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield address, asked


def test_a_model_is_fetched_once_and_used_without_the_hub(
    root: Path,
    hub: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, asked = hub
    folder = model_folder("someone/tiny")
    assert capsys.readouterr().err == f"mechshift: someone/tiny is taken at commit {COMMIT}.\n"
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (root / "model" / name).read_bytes()
    before = [path for path in asked if path.endswith(".safetensors")]
    assert before
    assert model_folder(f"someone/tiny@{COMMIT}") == folder
    assert [path for path in asked if path.endswith(".safetensors")] == before
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    assert model_folder("someone/tiny") == folder
    said = capsys.readouterr().err
    assert said.startswith("mechshift: The hub can't be reached")
    assert said.endswith(f"{COMMIT}.\n")


def test_configuration_and_tokenizer_come_without_the_weights(
    hub: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder("someone/tiny", weights=False)
    assert (folder / "config.json").is_file()
    assert not list(folder.glob("*.safetensors"))
    assert not [path for path in hub[1] if path.endswith(".safetensors")]
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    assert model_folder("someone/tiny", weights=False) == folder
    with pytest.raises(ModelError, match="can't be reached"):  # there are no weights
        model_folder("someone/tiny")


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
    hub: tuple[str, list[str]], arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    with pytest.raises(ModelError) as caught:
        model_folder(*arguments)
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert said.endswith(".")
    assert not [path for path in hub[1] if path.endswith((".safetensors", ".bin"))]


def test_without_a_network_the_way_out_is_said(
    hub: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    with pytest.raises(ModelError, match="can't be reached") as caught:
        model_folder("someone/tiny")
    assert "hf download someone/tiny --local-dir FOLDER" in str(caught.value)


def test_a_model_that_does_not_fit_is_refused_before_it_is_fetched(
    hub: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(ModelError, match=r"GB of weights and .* has room for 0\.0 GB"):
        model_folder("someone/tiny")
    assert not [path for path in hub[1] if path.endswith(".safetensors")]


def test_weights_with_another_hash_than_the_hub_names_are_deleted(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    for _ in range(2):  # nothing is left of it that would be taken the next time
        with pytest.raises(ModelError, match=r"instead of .* so it was deleted: say the command"):
            model_folder("someone/spoiled")
        assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert model_folder("someone/tiny").is_dir()


def test_folders_stay_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    inside = Path(root.name) / "model"  # has the form of a hub's name
    assert model_folder(inside) == inside
    with pytest.raises(ConfigError, match="leave it out"):
        model_folder(inside, "main")
    with pytest.raises(ConfigError, match="one of them"):
        model_folder("someone/tiny@main", "main")


def test_a_command_takes_the_hubs_name(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([entry(0)]))
    out = tmp_path / "s.json"
    given = ("attribute", "--model", "someone/tiny", "--revision", COMMIT, "--method", "eap")
    code, said, err = call(*given, "--examples", tmp_path / "x.json", "--out", out)
    assert (code, said) == (0, f"Wrote {out}\n"), err
    refused = call(*given, "--examples", tmp_path / "none.json", "--out", out)
    assert_refused(refused, "none.json")  # what is wrong here is said before anything is fetched
