"""The doctor measures, and says what is wrong in one sentence each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2ForCausalLM

from mechshift_lib.config import ModelSpec, Pair
from mechshift_lib.doctor.diagnosis import examine
from mechshift_lib.doctor.given import folder_or_hub, spec_of
from mechshift_lib.doctor.measures import attribution_bytes, mask_losses
from mechshift_lib.doctor.proposal import as_yaml, propose
from mechshift_lib.errors import ConfigError, ModelError
from mechshift_lib.models.loading import load_folder
from mechshift_lib.tasks import get_task
from mechshift_lib.tasks.tokenizer import build_word_tokenizer
from tests.support import published
from tests.support.command import call
from tests.support.study import make_pair


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("doctor")
    make_pair(root, seeds=(0,))
    return root / "data" / "models" / "toy" / "seed0"


@pytest.fixture
def folders(models, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(models, tmp_path / "models"))


def diagnosis(folder, mask_token=None, *, mdm="mdm", tasks=None):
    return examine(
        spec_of(folder_or_hub(str(folder / "arm")), readout="next-token"),
        spec_of(folder_or_hub(str(folder / mdm)), readout="shifted-mask", mask_token=mask_token),
        declared=False,
        tasks=tasks,
        root=folder,
    )


def failed(found):
    return {check.name: check.sentence for check in found.checks if not check.passed}


def test_a_sound_pair_passes_and_its_file_is_proposed(models):
    found = diagnosis(models)
    assert found.healthy
    assert not {name for name in failed(found) if not name.endswith("solved")}  # random models
    for check in found.checks:
        assert check.sentence.endswith(".")
        assert "\n" not in check.sentence
    pair = propose("mine", found, root=models.parent)
    text = as_yaml(pair)
    assert Pair.model_validate(yaml.safe_load(text)) == pair
    assert pair.arm.source.path == "seed0/arm"  # relative to the root
    assert (pair.arm.attention, pair.mdm.attention) == ("causal", "full")
    assert pair.mdm.mask_token == "[MASK]"
    assert pair.tasks == ("ioi", "greater-than", "countdown", "infilling")


def test_the_precision_that_a_pair_is_examined_and_declared_in(models):
    options = ("--arm", models / "arm", "--mdm", models / "mdm", "--dtype", "bfloat16")
    code, said, error = call("doctor", *options)
    assert code == 0, error
    pair = yaml.safe_load(said[said.index("name: ") :])
    assert pair["arm"]["dtype"] == pair["mdm"]["dtype"] == "bfloat16"


def test_a_file_like_another_pairs(models):
    found = diagnosis(models)
    like = propose("like", found).model_copy(update={"analyses": ("behaviour", "circuits")})
    assert propose("mine", found, like=like).analyses == ("behaviour", "circuits")
    assert propose("mine", found, like=like, analyses=["behaviour"]).analyses == ("behaviour",)
    with pytest.raises(ConfigError, match="lower-case letters"):
        propose("my pair; rm", found)
    with pytest.raises(ConfigError, match="analyses"):
        propose("mine", found, analyses=["everything"])


def reads_in_place(*, shifted: bool):
    """A model that copies a token's id to its logits, its own or the next one's place."""

    class Copying:
        mask_id = 3

        def logits(self, ids):
            truth = torch.tensor([TRUTH[tuple(row.shape)] for row in ids])
            logits = torch.nn.functional.one_hot(truth, 400).float() * 9
            return logits.roll(-1, 1) if shifted else logits

    return Copying()


TRUTH: dict[tuple[int, ...], list[int]] = {}


@pytest.mark.parametrize("shifted", [True, False])
def test_the_readout_is_where_masked_tokens_are_predicted(shifted):
    example = get_task("ioi").examples(build_word_tokenizer(), 1, 0)[0]
    tokens = [*example.clean, *example.answer]
    TRUTH[(len(tokens),)] = tokens
    losses = mask_losses(reads_in_place(shifted=shifted), [example] * 4)
    assert losses.readout == ("shifted-mask" if shifted else "mask")
    assert min(losses.shifted, losses.in_place) < 0.1
    assert max(losses.shifted, losses.in_place) > 3
    assert losses.n >= 4


def test_a_missing_or_damaged_model_is_the_first_thing_said(folders):
    (folders / "mdm" / "model.safetensors").write_bytes(b"nothing")
    found = diagnosis(folders)
    assert list(failed(found)) == ["MDM loads"]
    assert not found.healthy
    shutil.rmtree(folders / "arm")
    (folders / "arm").mkdir()
    assert "config.json" in failed(diagnosis(folders))["ARM loads"]


def test_halves_that_differ_are_named(folders):
    make_pair(folders / "deep", seeds=(0,), layers=3)
    shutil.copytree(folders / "deep/data/models/toy/seed0/mdm", folders / "other")
    assert "n_layers 2 and 3" in failed(diagnosis(folders, mdm="other"))["same anatomy"]
    tokenizer = folders / "mdm" / "tokenizer.json"
    text = tokenizer.read_text().replace('"Michael"', '"Mikhail"')
    tokenizer.write_text(text)
    assert "such as 'Michael'" in failed(diagnosis(folders))["same vocabulary"]


def test_attention_is_measured_not_believed(folders):
    """The MDM's config says nothing: as saved it is causal, and told so it is not."""
    found = diagnosis(folders)
    sentence = next(c.sentence for c in found.checks if c.name == "MDM's attention")
    assert sentence.startswith("As it was saved its first token doesn't see the last")
    assert "the attention of every layer is full" in next(
        c.sentence for c in found.checks if c.name == "MDM's residual sum"
    )
    model = Qwen2ForCausalLM.from_pretrained(folders / "arm")
    model.config.is_causal = False
    model.save_pretrained(folders / "arm")
    assert "no autoregressive model" in failed(diagnosis(folders))["ARM's attention"]


def test_a_mask_token_is_found_or_asked_for(folders):
    assert "no token '<void>'" in failed(diagnosis(folders, "<void>"))["mask token"]
    for name in ("arm", "mdm"):
        for file in ("tokenizer.json", "tokenizer_config.json"):
            path = folders / name / file
            path.write_text(path.read_text().replace("[MASK]", "[HOLE]"))
    named = diagnosis(folders, "[HOLE]")
    assert named.healthy
    assert named.mdm.mask_token == "[HOLE]"


def test_a_wrongly_declared_readout_is_a_cross(models):
    source = folder_or_hub(str(models / "mdm"))
    measured = diagnosis(models).mdm.readout
    other = "mask" if measured == "shifted-mask" else "shifted-mask"
    found = examine(
        spec_of(folder_or_hub(str(models / "arm")), readout="next-token"),
        ModelSpec(source=source, attention="full", readout=other, mask_token="[MASK]"),
    )
    assert f"declare {measured}" in failed(found)["readout"]
    assert not found.healthy


def test_a_task_that_does_not_fit_the_tokenizer_is_left_out(models):
    found = diagnosis(models, tasks={"ioi": {}, "countdown": {"largest": 300}})
    assert set(found.tasks) == {"ioi"}
    assert "at most 99" in failed(found)["countdown tokenises"]
    assert found.healthy


def test_a_gpt2_shaped_pair_is_understood(tmp_path):
    tokenizer = build_word_tokenizer()
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2)
    for name in ("arm", "mdm"):
        GPT2LMHeadModel(config).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    found = diagnosis(tmp_path, tasks={"ioi": {}})
    assert found.healthy
    model = load_folder(tmp_path / "arm")
    weights = sum(p.numel() for p in model.hf.parameters()) * 4
    small, large = (attribution_bytes(model, 20, batch) for batch in (1, 100))
    assert weights < small < large


def test_what_is_neither_a_folder_nor_a_pinned_repository_is_refused():
    revision = "a" * 40
    assert folder_or_hub(f"owner/name@{revision}", remote_code=True).remote_code
    for text in ("owner/name", f"name@{revision}", "owner/name@main", "/nowhere/at/all"):
        with pytest.raises(ModelError, match="neither a folder nor owner/name@revision"):
            folder_or_hub(text)


def test_a_control_that_is_not_the_arm_trained_on_is_refused(models, tmp_path):
    config = GPT2Config(n_embd=16, n_layer=1, n_head=1, vocab_size=600, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "smaller")
    build_word_tokenizer().save_pretrained(tmp_path / "smaller")
    mdm = spec_of(folder_or_hub(str(models / "mdm")), readout="shifted-mask")
    arm, smaller = (
        spec_of(folder_or_hub(str(path)), readout="next-token")
        for path in (models / "arm", tmp_path / "smaller")
    )
    found = examine(arm, mdm, smaller, declared=False, root=models)
    assert not found.healthy
    assert "It isn't the ARM trained on (n_layers 2 and 1;" in failed(found)["control"]
    found = examine(arm, mdm, arm, declared=False, root=models)
    assert "control" in {check.name for check in found.checks if check.passed}


def test_every_check_is_told_as_it_is_made(models):
    told = []
    found = examine(
        spec_of(folder_or_hub(str(models / "arm")), readout="next-token"),
        spec_of(folder_or_hub(str(models / "mdm")), readout="shifted-mask"),
        declared=False,
        root=models,
        tell=told.append,
    )
    assert told == found.checks


def test_a_pair_s_own_models_are_examined_and_no_others():
    code, _, error = call("doctor", "tiny-qwen", "--arm", "./other")
    assert code == 2
    assert "leave out --arm, --mdm, --mask-token and --mask-id, or the pair's name" in error


def test_a_mask_beyond_the_tokenizer_is_given_by_its_id(tmp_path, monkeypatch):
    """As DiffuGPT's: a row of the embedding that no token leads to."""
    monkeypatch.setenv("MECHSHIFT_CACHE", str(tmp_path / "cache"))
    n = len(build_word_tokenizer())
    published.save_arm(tmp_path / "arm", "gpt2")
    published.save_diffugpt(tmp_path / "mdm", extra=2)
    options = ("--arm", tmp_path / "arm", "--mdm", tmp_path / "mdm", "--mask-token", "[M]")
    code, said, error = call("doctor", *options)
    assert code == 2
    assert "or its id with --mask-id" in said
    code, said, error = call("doctor", *options, "--mask-id", n)
    assert code == 0, (said, error)
    assert f"[M], id {n}." in said
    pair = yaml.safe_load(said[said.index("name: ") :])
    assert pair["mdm"]["mask_token"] == "[M]"
    for wrong, sentence in ((n + 2, "lies beyond the"), (n + 1, "none with mask id")):
        code, _, error = call("doctor", *options, "--mask-id", wrong)
        assert code == 2
        assert sentence in error
