"""Which pairs and models the page can run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mechshift_lib.config import ROOT, FolderSource, Pair
from mechshift_lib.models.opening import open_tokenizer
from mechshift_lib.models.sources import locate
from mechshift_lib.play.files import Entry, name_of, script
from mechshift_lib.play.prompts import cues, prompts
from mechshift_lib.play.tokenizers import read_tokenizer
from mechshift_lib.play.weights import read_weights

#: What every model of a pair has in common, as nodes are ablated in all of them at once.
GRAPH = ("layers", "heads", "kvHeads")


def playable(pair: Pair, write: Callable[[str, str], None], root: Path = ROOT) -> Entry | None:
    """Write the files of a pair's models that the page can run.

    Args:
        pair: the pair.
        write: is given the name and the content of each model's file, one at a time.
        root: of the checkout.

    Returns:
        What the index says of the pair; None where not even its ARM and MDM of one training can
        be run.

    Raises:
        ModelError: a model's files are damaged.
    """
    if pair.parent is None or not isinstance(pair.parent.source, FolderSource):
        return None
    folder = _folder(pair, "arm", pair.seeds[0], root)
    own = read_tokenizer(folder)
    if own is None:
        return None
    graph: dict[str, int] = {}
    masks: dict[str, int | None] = {}
    trainings: dict[int, list[str]] = {}
    for seed in pair.seeds:
        roles = []
        for role in (*pair.roles, *pair.variants):
            spec = pair.declared(role, seed)
            if not isinstance(spec.source, FolderSource):
                continue
            weights = read_weights(spec, root)
            if weights is None or read_tokenizer(root / spec.source.path) != own:
                continue
            token = spec.mask_token
            if token is not None and token not in own["vocabulary"]:
                continue
            shape = {name: weights.config[name] for name in GRAPH}
            if graph and shape != graph:
                continue
            graph = shape
            masks[role] = None if token is None else own["vocabulary"].index(token)
            name = name_of(pair.name, role, seed)
            write(name, script(name, spec, weights, masks[role]))
            roles.append(role)
        if {"arm", "mdm"} <= set(roles):
            trainings[seed] = roles
    if not trainings:
        return None
    tokenizer = open_tokenizer(locate(pair.parent.at_seed(pair.seeds[0]).source, root))
    return Entry(
        pair=pair,
        tokenizer=own,
        graph=graph,
        masks=masks,
        trainings=trainings,
        prompts=prompts(pair, tokenizer),
        cues=cues(pair, tokenizer),
    )


def _folder(pair: Pair, role: str, seed: int, root: Path) -> Path:
    source = pair.declared(role, seed).source
    assert isinstance(source, FolderSource)
    return root / source.path
