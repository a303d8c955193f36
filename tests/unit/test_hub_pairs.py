"""The hub's pairs: each file, with small models of the same classes and quirks behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import PreTrainedModel

from mechshift_lib.config import FILL_IN, ROOT, HubSource, Pair, load_pair, pair_names
from mechshift_lib.errors import ConfigError, ModelError
from mechshift_lib.hub.fetching import fetch
from mechshift_lib.models.loading import load_model
from mechshift_lib.snapshots import read_snapshot
from mechshift_lib.tasks.tokenizer import build_word_tokenizer
from tests.support import published
from tests.support.hub import REVISION, FakeHub, fake_hub

LAST = len(build_word_tokenizer())


def save_a2d_qwen2(folder: Path) -> PreTrainedModel:
    return published.save_a2d(folder, "qwen2")


def save_a2d_qwen3(folder: Path) -> PreTrainedModel:
    return published.save_a2d(folder, "qwen3")


def save_diffugpt_medium(folder: Path) -> PreTrainedModel:
    return published.save_diffugpt(folder, extra=2)


#: Pair -> what its ARM is, how its MDM is saved, the mask id there, and its token.
PUBLISHED: dict[str, tuple[str | None, Callable[[Path], PreTrainedModel], int | None, str]] = {
    "qwen2.5-7b-dream": ("qwen2", published.save_dream, LAST, "<|mask|>"),
    "llama2-7b-diffullama": ("llama", published.save_diffullama, 7, ""),
    "gpt2-diffugpt-s": ("gpt2", published.save_diffugpt, 7, ""),
    "gpt2-medium-diffugpt-m": ("gpt2", save_diffugpt_medium, LAST, "[M]"),
    "qwen3-0.6b-mdlm": ("qwen3", save_a2d_qwen3, None, "<|mask|>"),
    "qwen3-0.6b-bd3lm": ("qwen3", save_a2d_qwen3, None, "<|mask|>"),
    "qwen2.5-coder-0.5b-mdlm": ("qwen2", save_a2d_qwen2, None, "<|mask|>"),
    "qwen2.5-coder-0.5b-bd3lm": ("qwen2", save_a2d_qwen2, None, "<|mask|>"),
    "llada-8b": (None, published.save_llada, LAST, "<|mdm_mask|>"),
}
#: Families that were trained to predict a token in its own place.
IN_PLACE = (save_a2d_qwen2, save_a2d_qwen3, published.save_llada)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub(monkeypatch, tmp_path) as found:
        yield found


def shipped(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "data" / "pairs" / f"{name}.yaml").read_text(encoding="utf-8"))


def swapped(name: str, hub: FakeHub, root: Path) -> tuple[Pair, Any]:
    """The pair's own file with the small models behind it, and the MDM as it was saved."""
    kind, save, mask_id, _ = PUBLISHED[name]
    described = shipped(name)
    heads = 4 if kind in (None, "gpt2") else 2
    sizes = published.SIZE | {"kv_heads": heads, "parameters": 1}
    for role in [x for x in ("arm", "mdm") if x in described]:
        source = described[role]["source"]
        source |= {"revision": REVISION, "size": sizes}
        hub.repositories[source["repo"]] = root / role
        described[role]["dtype"] = "float32"
    if kind is not None:
        published.save_arm(root / "arm", kind)
    saved = save(root / "mdm")
    if "mask_id" in described["mdm"]:
        described["mdm"]["mask_id"] = mask_id
    if name == "gpt2-medium-diffugpt-m":
        described["mdm"]["mask_token"] = "[M]"
    folder = root / "data" / "pairs"
    folder.mkdir(parents=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(described))
    return load_pair(name, root), saved


def test_every_pair_of_the_hub_is_tried_here() -> None:
    of_hub = {name for name in pair_names() if shipped(name)["mdm"]["source"]["kind"] == "hub"}
    assert of_hub == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_computes_what_its_own_code_does(
    name: str, hub: FakeHub, tmp_path: Path
) -> None:
    pair, saved = swapped(name, hub, tmp_path)
    with pytest.raises(ModelError, match=f"isn't fetched yet: say mechshift fetch {name}"):
        pair.model("mdm")
    fetch([pair.declared(role) for role in pair.roles])
    spec = pair.model("mdm")
    assert not (Path(spec.source.path) / "modeling.py").exists()
    model = load_model(spec, kv="grouped")
    token = PUBLISHED[name][3]
    assert model.tokenizer.convert_ids_to_tokens(model.mask_id) == (token or spec.mask_token)
    assert model.readout.name == spec.readout
    assert spec.readout == ("mask" if PUBLISHED[name][1] in IN_PLACE else "shifted-mask")
    ids = torch.tensor([[5, 9, 3, 17, model.mask_id, 2]])
    with torch.no_grad():
        own = saved(input_ids=ids).logits
    assert torch.allclose(model.logits(ids), own, atol=1e-5)
    assert own.std() > 0.05  # the models differ from a constant, so that equal means something
    moved = model.logits(torch.tensor([[5, 9, 3, 17, model.mask_id, 4]]))[0, 0]
    assert not torch.allclose(moved, own[0, 0])
    if "arm" in pair.roles:
        arm = load_model(pair.model("arm"))
        assert arm.attention == "causal"
        assert arm.n_layers == model.n_layers


def test_a_model_that_is_larger_than_its_file_says_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    pair, _ = swapped("qwen3-0.6b-mdlm", hub, tmp_path)
    spec = pair.declared("mdm")
    assert isinstance(spec.source, HubSource)
    assert spec.source.size is not None
    size = spec.source.size.model_copy(update={"layers": 3})
    source = spec.source.model_copy(update={"size": size})
    with pytest.raises(ModelError, match="has layers 2, but the pair's file says 3"):
        fetch([spec.model_copy(update={"source": source})])
    assert read_snapshot(source.repo, REVISION) is None


@pytest.mark.parametrize(
    ("mask_id", "token", "message"),
    [
        (10**6, None, "lies beyond the"),
        (7, "[M]", "is .* in the tokenizer, not"),
        (LAST + 1, "[M]", "none with mask id"),
    ],
)
def test_a_mask_id_that_is_no_mask_is_refused(
    mask_id: int, token: str | None, message: str, hub: FakeHub, tmp_path: Path
) -> None:
    pair, _ = swapped("gpt2-medium-diffugpt-m", hub, tmp_path)
    spec = pair.declared("mdm").model_copy(update={"mask_id": mask_id, "mask_token": token})
    with pytest.raises(ModelError, match=message):
        fetch([spec])


def test_a_llada_that_llama_cannot_be_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    pair, _ = swapped("llada-8b", hub, tmp_path)
    published.edit(tmp_path / "mdm" / "config.json", include_bias=True)
    with pytest.raises(ModelError, match="sets include_bias"):
        fetch([pair.declared("mdm")])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_revision_that_is_not_filled_in_is_refused_and_says_where_it_stands(name: str) -> None:
    pair = load_pair(name)
    for role in pair.roles:
        source = pair.declared(role).source
        assert isinstance(source, HubSource)
        if source.revision == FILL_IN:
            with pytest.raises(ConfigError, match=f"{source.repo}/commits/main to {role}.source"):
                pair.model(role)
            with pytest.raises(ModelError, match=r"No revision of .* is pinned"):
                fetch([pair.declared(role)])


def test_an_mdm_without_a_parent_has_no_chapters_and_no_arm() -> None:
    pair = load_pair("llada-8b")
    assert pair.roles == ("mdm",)
    with pytest.raises(ConfigError, match="has no model 'arm'"):
        pair.model("arm")
    with pytest.raises(ConfigError, match="MDM without an ARM"):
        _ = pair.arm
    with pytest.raises(ValueError, match="compare with an ARM"):
        Pair.model_validate(shipped("llada-8b") | {"analyses": ["circuits"]})
