"""The examination of a pair: one check after the other, each with one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from mechshift_lib.config import ROOT, ModelSpec
from mechshift_lib.diffusion.samplers import denoise, generate_arm
from mechshift_lib.doctor.measures import (
    MaskLosses,
    attribution_bytes,
    free_bytes,
    guess_mask,
    mask_losses,
    sees_back,
    vocabulary_fault,
)
from mechshift_lib.errors import MechshiftError, TaskError
from mechshift_lib.models.anatomy import Anatomy
from mechshift_lib.models.architectures import anatomy_of
from mechshift_lib.models.loading import LoadedModel, load_model, open_spec
from mechshift_lib.models.readout import make_readout
from mechshift_lib.models.shape import Shape, shape_of
from mechshift_lib.models.weights import numbers_of, places_of
from mechshift_lib.tasks import TASKS, Example, get_task

#: Examples of each task that the models are asked, and their seed; few, where models have more
#: than so many parameters and run on a processor, so that the examination takes about a minute.
EXAMPLES, FEW, LARGE, SEED = 16, 4, 5e7, 1
#: Options that are tried where a task's own don't fit a tokenizer or a model.
ALTERNATIVES: dict[str, list[dict[str, Any]]] = {"infilling": [{"words": 1}]}
#: Batch that memory is estimated for.
BATCH = 8
GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what, in a few words.
        passed: whether it is as it must be.
        sentence: what was seen, and what to change where it didn't pass.
        needed: whether the pair can't be run without it.
    """

    name: str
    passed: bool
    sentence: str
    needed: bool = True


@dataclass
class Diagnosis:
    """All checks of a pair, and what the file of the pair should say.

    Attributes:
        checks: in the order in which they were made.
        arm: the ARM as it should be declared, where it loads.
        mdm: the MDM as it should be declared, where it loads.
        continued: the control as it should be declared, where one is given.
        tasks: tasks that both models can be asked, with their options.
        tell: what is done with every check as it is made.
    """

    checks: list[Check] = field(default_factory=list)
    arm: ModelSpec | None = None
    mdm: ModelSpec | None = None
    continued: ModelSpec | None = None
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    tell: Callable[[Check], None] = lambda _: None

    @property
    def healthy(self) -> bool:
        """Whether the pair can be run."""
        return all(check.passed for check in self.checks if check.needed) and bool(self.tasks)

    def add(self, name: str, passed: bool, sentence: str, *, needed: bool = True) -> bool:
        """Note a check and return whether it passed."""
        check = Check(name, passed, sentence, needed)
        self.checks.append(check)
        self.tell(check)
        return passed


@dataclass(frozen=True)
class _Opened:
    """A model as it was saved, before anything is set or proven."""

    model: PreTrainedModel
    tokenizer: Any
    anatomy: Anatomy
    shape: Shape


def examine(
    arm: ModelSpec,
    mdm: ModelSpec,
    control: ModelSpec | None = None,
    *,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    declared: bool = True,
    device: str = "cpu",
    root: Path = ROOT,
    tell: Callable[[Check], None] = lambda _: None,
) -> Diagnosis:
    """Examine a pair.

    Args:
        arm: the ARM.
        mdm: the MDM; without ``declared``, attention, readout and mask token are found out.
        control: the ARM trained on, where there is one.
        tasks: tasks with their options; all tasks by default.
        declared: whether ``arm`` and ``mdm`` come from a pair's file and must be right.
        device: where models run.
        root: folders are relative to it.
        tell: what is done with every check as it is made.
    """
    found = Diagnosis(tell=tell)
    first = _open(found, "ARM", arm, root)
    second = _open(found, "MDM", mdm, root)
    if first is None or second is None or not _same(found, first, second):
        return found
    mdm = _attention(found, first, second, mdm, declared)
    if not declared:
        token = _mask(found, second.tokenizer, mdm.mask_token)
        if token is None:
            return found
        mdm = mdm.model_copy(update={"mask_token": token})
    del second  # two models in memory are enough
    if control is not None and not _control(found, first, control, root):
        return found
    del first
    loaded = {
        role: _load(found, role, spec, device, root) for role, spec in (("ARM", arm), ("MDM", mdm))
    }
    if loaded["ARM"] is None or loaded["MDM"] is None:
        return found
    found.arm, found.mdm = arm, mdm
    _tasks(found, loaded["ARM"], loaded["MDM"], tasks, declared)
    _memory(found, loaded["MDM"])
    return found


def _open(found: Diagnosis, role: str, spec: ModelSpec, root: Path) -> _Opened | None:
    try:
        model, tokenizer = open_spec(spec, root)
        anatomy = anatomy_of(model.config)
        shape = shape_of(model.config, anatomy)
    except MechshiftError as error:
        found.add(f"{role} loads", False, str(error))
        return None
    model = model.eval()
    millions = numbers_of(model) / 1e6
    found.add(
        f"{role} loads",
        True,
        f"{type(model).__name__}: {shape.n_layers} layers × {shape.n_heads} heads "
        f"({shape.n_kv_heads} KV), width {shape.d_model}, {millions:.1f} million parameters.",
    )
    if tokenizer is None:
        found.add(
            f"{role}'s tokenizer", False, "There is none beside the weights: save it there too."
        )
        return None
    return _Opened(model, tokenizer, anatomy, shape)


def _same(found: Diagnosis, arm: _Opened, mdm: _Opened) -> bool:
    """Vocabulary and anatomy of the two are the same."""
    fault = vocabulary_fault(arm.tokenizer, mdm.tokenizer)
    found.add(
        "same vocabulary",
        not fault,
        f"{fault[0].upper()}{fault[1:]}: compare models with one tokenizer."
        if fault
        else f"All {len(arm.tokenizer.get_vocab())} tokens of the ARM have the same id in the MDM.",
    )
    other = _differing(arm, mdm)
    found.add(
        "same anatomy",
        not other,
        f"The two differ ({'; '.join(other)}), so their circuits have no edges in common: give the "
        "MDM that was made from this ARM."
        if other
        else f"Both have the same layers and heads ({arm.anatomy.model_type}, "
        f"{mdm.anatomy.model_type}).",
    )
    return not fault and not other


def _differing(one: _Opened, other: _Opened) -> list[str]:
    """In what the layers and heads of two models differ."""
    numbers = ("n_layers", "n_heads", "n_kv_heads", "d_model", "d_head")
    found = [
        f"{name} {getattr(one.shape, name)} and {getattr(other.shape, name)}"
        for name in numbers
        if getattr(one.shape, name) != getattr(other.shape, name)
    ]
    if one.anatomy.parallel != other.anatomy.parallel:
        found.append("attention and MLP in parallel in one of them")
    return found


def _control(found: Diagnosis, arm: _Opened, spec: ModelSpec, root: Path) -> bool:
    """The control is an ARM with the ARM's vocabulary, layers and heads."""
    own = _open(found, "control", spec, root)
    if own is None:
        return False
    faults = [
        vocabulary_fault(arm.tokenizer, own.tokenizer),
        "; ".join(_differing(arm, own)),
        "its first token sees the last" if sees_back(own.model) else "",
    ]
    fault = "; ".join(filter(None, faults))
    return found.add(
        "control",
        not fault,
        f"It isn't the ARM trained on ({fault}): give one that is, or none."
        if fault
        else "It has the ARM's vocabulary, layers and heads, and causal attention.",
    )


def _attention(
    found: Diagnosis, arm: _Opened, mdm: _Opened, spec: ModelSpec, declared: bool
) -> ModelSpec:
    """How the two attend as they were saved; that they can as declared is proven by loading.

    Returns:
        The MDM's declaration with its attention.
    """
    backwards = sees_back(arm.model)
    found.add(
        "ARM's attention",
        not backwards,
        "Its first token sees the last: it is no autoregressive model."
        if backwards
        else "Causal: its first token doesn't see the last.",
    )
    raw = sees_back(mdm.model)
    sentence = (
        "Its first token sees the last, as it was saved."
        if raw
        else "As it was saved its first token doesn't see the last; with attention: full the "
        "library makes it."
    )
    wanted = spec.attention if declared else "full"
    passed = raw or wanted == "full"
    found.add("MDM's attention", passed, sentence)
    return spec.model_copy(update={"attention": wanted})


def _mask(found: Diagnosis, tokenizer: Any, named: str | None) -> str | None:
    """The mask token that was named, or one that is found."""
    token = named or guess_mask(tokenizer)
    if token is None or token not in tokenizer.get_vocab():
        what = f"The tokenizer has no token {token!r}" if token else "No mask token was found"
        way = "name one with --mask-token, or its id with --mask-id"
        found.add("mask token", False, f"{what}: {way}.")
        return None
    found.add("mask token", True, f"{token}, id {tokenizer.get_vocab()[token]}.")
    return token


def _load(
    found: Diagnosis, role: str, spec: ModelSpec, device: str, root: Path
) -> LoadedModel | None:
    """Load with all proofs: parts, residual sum, attention as declared."""
    with _noted(found, f"{role}'s residual sum"):
        model = load_model(spec, device=device, root=root)
        found.add(
            f"{role}'s residual sum",
            True,
            "The outputs of embedding, heads and MLPs add up to the residual stream, and the "
            f"attention of every layer is {spec.attention}.",
        )
        return model
    return None


@contextmanager
def _noted(found: Diagnosis, name: str) -> Iterator[None]:
    """A user error becomes a check that didn't pass."""
    try:
        yield
    except MechshiftError as error:
        found.add(name, False, str(error))


def _tasks(
    found: Diagnosis,
    arm: LoadedModel,
    mdm: LoadedModel,
    asked: Mapping[str, Mapping[str, Any]] | None,
    declared: bool,
) -> None:
    wanted = {name: dict(asked[name]) for name in asked} if asked else {name: {} for name in TASKS}
    drawn: dict[str, list[Example]] = {}
    slow = arm.device.type == "cpu" and numbers_of(arm.hf) > LARGE
    n_examples = FEW if slow else EXAMPLES
    for name, options in wanted.items():
        tried = [options, *([] if declared else ALTERNATIVES.get(name, []))]
        for number, chosen in enumerate(tried):
            try:
                drawn[name] = get_task(name, **chosen).examples(arm.tokenizer, n_examples, SEED)
            except TaskError as error:
                if number == len(tried) - 1:
                    found.add(f"{name} tokenises", False, str(error), needed=declared)
                continue
            n = len(drawn[name][0].answer)
            found.add(f"{name} tokenises", True, f"Answers of {n} token{'s' * (n > 1)}.")
            found.tasks[name] = chosen
            break
    if not drawn:
        return
    _readout(found, mdm, [e for examples in drawn.values() for e in examples], declared)
    readout = found.mdm.readout if found.mdm else mdm.readout.name
    for name, examples in drawn.items():
        _solved(found, name, examples, arm, _read_as(mdm, readout))


def _read_as(mdm: LoadedModel, readout: str) -> LoadedModel:
    return replace(mdm, readout=make_readout(readout, mdm.mask_id))


def _readout(
    found: Diagnosis, mdm: LoadedModel, examples: Sequence[Example], declared: bool
) -> None:
    assert found.mdm is not None
    losses: MaskLosses = mask_losses(mdm, examples)
    sentence = (
        f"Masked tokens cost {losses.shifted:.2f} nats read one position before and "
        f"{losses.in_place:.2f} read in place (n = {losses.n})"
    )
    if not declared:
        found.mdm = found.mdm.model_copy(update={"readout": losses.readout})
    right = found.mdm.readout == losses.readout
    found.add(
        "readout",
        right,
        f"{sentence}: {losses.readout}."
        if right
        else f"{sentence}, but {found.mdm.readout} is declared: declare {losses.readout}.",
    )


def _solved(
    found: Diagnosis, name: str, examples: Sequence[Example], arm: LoadedModel, mdm: LoadedModel
) -> None:
    task = get_task(name, **found.tasks[name])
    prompts, lengths = [e.clean for e in examples], [len(e.answer) for e in examples]
    by_model = {
        "ARM": generate_arm(arm, prompts, lengths),
        "MDM": [x.tokens for x in denoise(mdm, prompts, lengths, order="maskgit_plus")],
    }
    right = {
        role: [task.score(e, t, arm.tokenizer) for e, t in zip(examples, answers, strict=True)]
        for role, answers in by_model.items()
    }
    both = sum(a and b for a, b in zip(*right.values(), strict=True))
    shares = ", ".join(f"{role} {sum(x)} of {len(x)}" for role, x in right.items())
    found.add(
        f"{name} solved",
        both > 0,
        f"{shares}, both {both}."
        if both
        else f"{shares}, none by both: circuits are not compared on tasks that a model can't do.",
        needed=False,
    )


def _memory(found: Diagnosis, model: LoadedModel) -> None:
    length = min(32, model.max_positions or 32)
    needed = attribution_bytes(model, length, BATCH)
    places = [free_bytes(device) for device in places_of(model.hf)]
    free = None if None in places else sum(x for x in places if x is not None)
    sentence = f"About {needed / GIB:.1f} GiB for a batch of {BATCH} prompts of {length} tokens"
    if free is None:
        found.add("memory", True, f"{sentence}.", needed=False)
        return
    enough = needed < free
    found.add(
        "memory",
        enough,
        f"{sentence}, {free / GIB:.1f} GiB are free."
        if enough
        else f"{sentence}, but {free / GIB:.1f} GiB are free: take a machine with more, or dtype "
        "bfloat16, or quantization 4-bit.",
        needed=False,
    )


def default_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
