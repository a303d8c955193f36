"""The hub at the command line: foreseen, refused before a download, fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mechshift_lib import config
from mechshift_lib.analyses.beside_paper import beside_paper, series_of
from mechshift_lib.analyses.study import Study
from mechshift_lib.comparison import published as paper
from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.doctor import measures
from mechshift_lib.results import Store
from tests.support.command import assert_refused, call
from tests.support.hub import REVISION, FakeHub, fake_hub
from tests.support.published import save_a2d, save_arm
from tests.support.study import make_pair


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub(monkeypatch, tmp_path) as found:
        save_arm(tmp_path / "arm", "qwen3")
        save_a2d(tmp_path / "mdm", "qwen3")
        found.repositories |= {"me/arm": tmp_path / "arm", "me/mdm": tmp_path / "mdm"}
        yield found


ASKED = ("--arm", f"me/arm@{REVISION}", "--mdm", f"me/mdm@{REVISION}")


def test_the_doctor_fetches_examines_and_proposes_the_hubs_repositories(
    hub: FakeHub, tmp_path: Path
) -> None:
    code, out, err = call("doctor", *ASKED)
    assert code == 0, err
    assert "Fetching 0.0 GiB of me/mdm." in err
    assert "✓ mask token" in out
    assert "<|mask|>" in out
    proposed = out[out.index("name: my-pair") :]
    assert "repo: me/mdm" in proposed
    assert str(tmp_path) not in proposed  # not where this machine keeps it


def test_a_published_form_that_was_downloaded_by_other_means_is_understood(
    hub: FakeHub, tmp_path: Path
) -> None:
    code, out, err = call("doctor", "--arm", tmp_path / "arm", "--mdm", tmp_path / "mdm")
    assert code == 0, err
    assert f"path: {tmp_path / 'arm'}" in out  # plain as it is
    assert f"path: {tmp_path / 'cache' / 'hub' / 'local--mdm'}" in out
    assert hub.starts == []


def test_what_fits_neither_memory_nor_disk_is_refused_before_a_download(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "free_bytes", lambda _: 10**6)
    assert_refused(call("doctor", *ASKED), "nothing was fetched", "or dtype bfloat16")
    assert {name for name, _ in hub.starts} == {"config.json"}
    asked = len(hub.starts)
    # A pair's own file says how large its models are, so nobody is asked.
    assert_refused(call("fetch", "qwen2.5-7b-dream"), "30.7 GiB", "nothing was fetched")
    assert len(hub.starts) == asked


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fetch", "tiny-qwen"), ("nothing to fetch",)),
        (("fetch", "gpt2-diffugpt-s"), ("pins no revision", "mdm.source.revision")),
        (("doctor", "gpt2-diffugpt-s"), ("pins no revision",)),
        (("doctor", "llada-8b"), ("MDM without an ARM",)),
        (("run", "llada-8b"), ("MDM without an ARM",)),
        (("run", "qwen2.5-7b-dream"), ("mechshift fetch qwen2.5-7b-dream",)),
        (("run", "llada-8b", "--dry-run"), ("MDM without an ARM",)),
        (("run", "tiny-qwen", "--analysis", "astrology", "--dry-run"), ("astrology",)),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: tuple[str, ...], words: tuple[str, ...], hub: FakeHub
) -> None:
    assert_refused(call(*arguments), *words)


def test_a_dry_run_says_models_memory_notebooks_and_time() -> None:
    code, out, _ = call("run", "gpt2-diffugpt-s", "--dry-run", "--budget", "full")
    assert code == 0
    assert "mdm: diffusionfamily/diffugpt-s, 0.5 GiB, float32, no revision pinned" in out
    assert "memory: about" in out
    pair = load_pair("gpt2-diffugpt-s")
    for chapter in pair.analyses:
        assert f"notebooks/{chapter}.ipynb" in out
    assert "notebooks/patching.ipynb" not in out
    assert "on one core" in out.splitlines()[-1]
    one = call("run", "gpt2-diffugpt-s", "--dry-run", "--analysis", "lens")[1]
    assert sum("notebooks/" in line for line in one.splitlines()) == 1


def test_published_values_stand_beside_those_measured(tmp_path: Path) -> None:
    """A toy pair: the published half is the paper's table, the other what the chapter computes."""
    name = make_pair(tmp_path, seeds=(0,), tasks=("ioi",))
    for part in ("paper",):
        (tmp_path / "data" / part).symlink_to(ROOT / "data" / part)
    study = Study(
        config.load_pair(name, tmp_path), "book", Store(tmp_path / "results"), "all", root=tmp_path
    )
    found = beside_paper(study)
    told = paper.read_table("overlap").set_index(["task", "arm"])
    rows = found[found.quantity == "overlap of edges"].set_index("series")
    assert rows.loc["Qwen series"].published == told.loc[("ioi", "qwen2.5-7b")].iloc[1]
    assert rows.loc["LLaMA series"].published == told.loc[("ioi", "llama2-7b")].iloc[1]
    assert set(found.task) == {"ioi"}
    assert found.measured.between(0, 1).all()
    assert (found.low <= found.high).all()
    assert len(found) == 8


def test_one_of_the_papers_pairs_is_held_against_itself() -> None:
    assert [x.series for x in series_of("qwen2.5-7b-dream")] == ["Qwen series"]
    assert [x.series for x in series_of("llama2-7b-diffullama")] == ["LLaMA series"]
    assert len(series_of("qwen2.5-coder-0.5b-mdlm")) == 2


@pytest.mark.parametrize("pair", ["tiny-llama", "smollm2-135m"])
def test_memory_is_foreseen_of_models_in_folders_and_wheels_too(pair: str) -> None:
    code, out, _ = call("run", pair, "--dry-run", "--analysis", "lens")
    assert code == 0
    (memory,) = [line for line in out.splitlines() if "memory: about" in line]
    assert float(memory.split()[2]) > 0.1
    assert "what is up to date isn't executed again" in out
