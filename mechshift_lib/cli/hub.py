"""``mechshift fetch``, and what is said of a pair before anything of it is fetched or run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mechshift_lib.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from mechshift_lib.choices import BudgetName
    from mechshift_lib.config import ModelSize, ModelSpec, Pair
    from mechshift_lib.hub.planning import Plan

GIB = 2**30
#: Neurons of an MLP for each of the width, where only its model says more.
HIDDEN = 4


def fetch(
    pair: Annotated[str, typer.Argument(metavar="PAIR", help="A file in data/pairs.")],
) -> None:
    """Fetch a pair's models from the Hugging Face hub, at the revisions that its file pins.

    First it says how much comes over the network and refuses what doesn't fit onto the disk or
    into memory. A connection that breaks is taken up within the file; after a command that ended,
    files that are whole are kept. Every weights file is checked against the hub's sha256, and read
    as safetensors only, by transformers' own code.

    Example: mechshift fetch qwen3-0.6b-mdlm
    """
    from mechshift_lib.config import HubSource, load_pair

    chosen = load_pair(pair)
    specs = []
    for role in chosen.roles:
        spec = chosen.declared(role)
        if isinstance(spec.source, HubSource):
            if not spec.source.pinned:
                raise ConfigError(chosen.unpinned(role, spec.source))
            specs.append(spec)
    if not specs:
        raise ConfigError(f"No model of {pair!r} is of the hub: there is nothing to fetch.")
    bring(specs)
    for role in chosen.roles:
        source = chosen.model(role).source
        typer.echo(f"{role}: {getattr(source, 'path', source)}")


def bring(specs: Sequence[ModelSpec]) -> None:
    """Fetch what isn't there, once it is known to fit.

    Raises:
        ModelError: it doesn't fit, or can't be fetched.
    """
    from mechshift_lib.config import HubSource
    from mechshift_lib.hub.fetching import fetch as fetch_all
    from mechshift_lib.hub.fetching import missing

    if not missing(specs):
        return
    hubs = [(spec, spec.source) for spec in specs if isinstance(spec.source, HubSource)]
    # What the pair's file says is enough to refuse a model without asking anybody.
    _check_memory([(spec, source.size) for spec, source in hubs if source.size is not None])

    def check(plans: list[Plan]) -> None:
        found = {one.source: one.size for one in plans}
        _check_memory([(spec, found[x]) for spec, x in hubs if x in found])
        for one in plans:
            source = one.source
            licence = f", licence {source.licence}" if source.licence else ""
            typer.echo(
                f"Fetching {one.to_fetch / GIB:.1f} GiB of {source.repo}{licence}.", err=True
            )

    fetch_all(specs, check)


def _check_memory(models: Sequence[tuple[ModelSpec, ModelSize]]) -> None:
    """Refuse models that don't fit into memory, before they are fetched.

    Models that are to be spread may take the memory of all devices.

    Raises:
        ModelError: there is too little memory.
    """
    if not models:
        return
    import torch

    from mechshift_lib.costs.memory import BATCH, LENGTH, Held, chapter_bytes
    from mechshift_lib.doctor.diagnosis import default_device
    from mechshift_lib.doctor.measures import devices, free_bytes

    device = default_device()
    needed = chapter_bytes([Held(x, spec.dtype, spec.quantization) for spec, x in models])
    free = free_bytes(torch.device(device))
    if any(spec.device_map is not None for spec, _ in models):
        found = [free_bytes(x) for x in devices()]
        device = "all devices"
        free = None if None in found else sum(x for x in found if x is not None)
    if free is not None and needed > free:
        ways = [
            ("dtype bfloat16", any(spec.dtype == "float32" for spec, _ in models)),
            ("quantization 4-bit", all(spec.quantization is None for spec, _ in models)),
        ]
        lower = "".join(f" or {way}" for way, open_ in ways if open_)
        raise ModelError(
            f"Attribution takes about {needed / GIB:.1f} GiB for {BATCH} prompts of {LENGTH} "
            f"tokens, but {free / GIB:.1f} GiB are free on {device}, so nothing was fetched: take "
            f"a machine with more memory{lower}."
        )


def foresee(pairs: Sequence[str], analyses: Sequence[str], budget: BudgetName) -> None:
    """Say which notebooks a run would execute, what memory they take and about how long.

    Nothing is loaded, fetched or executed.
    """
    from mechshift_lib.config import load_pair
    from mechshift_lib.costs.time import PAGE, Span, in_words, read_costs, span
    from mechshift_lib.workflow import check_chapters, default_pairs

    costs = read_costs()
    for name in pairs or default_pairs():
        pair = load_pair(name)
        check_chapters(pair, analyses)
        _foresee_models(pair, budget)
        total, unknown = Span(0.0, 0.0), []
        parameters = _parameters(pair)
        for chapter in analyses or pair.at_budget(budget).analyses:
            tasks, roles = len(pair.tasks), len(pair.roles)
            found = (
                span(chapter, parameters, pair.budget(budget), roles, tasks, costs)
                if parameters
                else None
            )
            if found is None:
                unknown.append(chapter)
            else:
                found += PAGE
                total += found
            typer.echo(
                f"  notebooks/{chapter}.ipynb -> book/executed/{name}/{chapter}.ipynb  "
                f"{in_words(found) if found else 'not measured'}"
            )
        if total.most:
            typer.echo(
                f"  in all {in_words(total)} on one core"
                f"{', without ' + ', '.join(unknown) if unknown else ''}: carried from the sizes "
                "that were measured; another processor, or a GPU, changes it, and what is up to "
                "date isn't executed again."
            )


def _foresee_models(pair: Pair, budget: BudgetName) -> None:
    """One line a model: what it is, whether it is there; and the memory of a chapter."""
    from mechshift_lib.config import HubSource
    from mechshift_lib.costs.memory import ITEMSIZE, Held, chapter_bytes

    typer.echo(f"{pair.name}: {pair.title}")
    models = []
    declared = [pair.declared(role) for role in pair.roles]
    of_hub = all(isinstance(spec.source, HubSource) for spec in declared)
    here = None if of_hub else _size_here(pair)  # reads the file of a wheel, so once
    for role, spec in zip(pair.roles, declared, strict=True):
        source = spec.source
        if not isinstance(source, HubSource):
            if here is not None:
                models.append(Held(here, spec.dtype, spec.quantization))
            continue
        state = "fetched" if source.pinned and spec.fetched() else "not fetched"
        if not source.pinned:
            state = "no revision pinned"
        size = ""
        if source.size is not None:
            models.append(Held(source.size, spec.dtype, spec.quantization))
            stored = source.size.parameters * ITEMSIZE[source.stored]
            size = f", {stored / GIB:.1f} GiB"
        how = f"{spec.dtype}{f', weights in {spec.quantization}' if spec.quantization else ''}"
        where = ", spread over devices" if spec.device_map else ""
        typer.echo(f"  {role}: {source.repo}{size}, {how}{where}, {state}")
    if models:
        needed = chapter_bytes(models, pair.budget(budget).batch_size)
        typer.echo(f"  memory: about {needed / GIB:.1f} GiB, two models at a time")


def _size_here(pair: Pair) -> ModelSize | None:
    """How large the models in a pair's folders, or in its wheel, are; None where nobody says."""
    from mechshift_lib.book.models import shape
    from mechshift_lib.config import ModelSize

    found = shape(pair)
    if "layers" not in found or "parameters" not in found:
        return None
    names = ("layers", "heads", "kv_heads", "width", "parameters")
    own = {name: found[name] for name in names}
    return ModelSize(**own, head_width=own["width"] // own["heads"], hidden=HIDDEN * own["width"])


def _parameters(pair: Pair) -> int | None:
    """Parameters of the ARM, or of the MDM where there is none; None where nobody says."""
    from mechshift_lib.book.models import shape
    from mechshift_lib.config import HubSource

    source = pair.declared(pair.roles[0]).source
    if isinstance(source, HubSource):
        return source.size.parameters if source.size else None
    return shape(pair).get("parameters")


def compare_paper(pairs: Sequence[str], budget: BudgetName) -> None:
    """Print the paper's numbers beside those that were measured on pairs."""
    from mechshift_lib.analyses.beside_paper import beside_paper
    from mechshift_lib.analyses.study import Study
    from mechshift_lib.workflow import default_pairs

    for name in pairs or default_pairs():
        study = Study.open(name, budget)
        if "overlap" not in study.pair.analyses:
            raise ConfigError(
                f"Pair {name!r} has no chapter overlap, which the paper's numbers are held "
                "against: add it to analyses in its file."
            )
        table = beside_paper(study)
        typer.echo(f"{name}, training {study.seed}; bounds are 95 % over examples")
        typer.echo(
            "  the pair has no task that the paper has numbers of"
            if table.empty
            else table.to_string(index=False, float_format=lambda x: f"{x:.3f}")
        )
