"""Which features ARM and MDM share: how good dictionaries are, whose features are, what they do.

All of a training is measured at once, on texts that no dictionary was trained on and on held-out
examples of the tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mechshift_lib.analyses.dictionaries import (
    CROSSCODERS,
    VIEWS,
    dictionary_of,
    fits,
    held_out,
    held_out_rows,
    identity,
    layer_of,
    names,
    views_of,
)
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.norms import Norm
from mechshift_lib.models.readout import Item
from mechshift_lib.results.store import Frames
from mechshift_lib.semantics.components import Unembedding
from mechshift_lib.semantics.dictionary import Dictionary, relative_norm
from mechshift_lib.semantics.dictionary_measures import (
    KINDS,
    confirmed,
    counts,
    explained,
    kinds,
    latent_scaling,
)
from mechshift_lib.semantics.dictionary_runs import asked_texts, effects, losses
from mechshift_lib.semantics.roles import role_of
from mechshift_lib.semantics.views import Text, Texts, View, streams

ROOMS = (
    "circuits",
    "diffusion",
    "semantics",
    "analyses/dictionaries",
    "analyses/features",
)
#: The crosscoder of ARM and MDM as each is used: of it are cards, and features that are taken out.
USED = "arm-mdm-masked"
#: Contexts of a card, tokens around the active one, and tokens that it promotes.
CONTEXTS, AROUND, PROMOTED = 3, 4, 3
#: Features of the MDM alone that are taken out one by one; draws of as many others.
TAKEN, DRAWS = 6, 8
#: How many features of the nearest size a feature's stand-in is drawn from.
NEAREST = 10
#: What is taken out: all features of the MDM only, as many others, one of the first, of the others.
TOGETHER, OTHERS, ALONE, OTHER = "together", "others together", "alone", "others alone"
FEATURES = ["name", "feature", "kind", "relative", "errors", "decoded", "confirmed", "rate", "size"]
CARDS = ["feature", "promoted", "on", "at masks", "contexts"]


def measured(study: Study, seed: int) -> Frames:
    """All tables of a training, from the store.

    Returns:
        ``quality``: a row for each dictionary and model of it: ``name, model, explained`` (share of
        variance), ``active`` (features a token), ``dead, features``, ``whole, reconstructed,
        mean`` (cross-entropy in nats; NaN for an MDM in a crosscoder), ``recovered``, ``n``
        (tokens that the loss is over), ``tokens``. ``features``: a row for each live feature of a
        crosscoder (:data:`FEATURES`; ``size`` is the mean norm of what it adds to the second
        model). ``counts``: a row for each crosscoder and kind. ``again``: the same for another
        random start, where there is one. ``cards`` (:data:`CARDS` and a rate for each task) and
        ``effects`` (``task, what, sets, features, difference``) of :data:`USED`.
    """
    key = study.key("mdm", seed, "", ROOMS)
    key |= {"dictionaries": [identity(study, name, seed) for name in names(study, seed)]}
    key |= {"asked": study.budget.dictionary_examples}

    def compute() -> Frames:
        quality, features, counted, again = [], [], [], []
        for name in names(study, seed):
            found, x = dictionary_of(study, name, seed), held_out_rows(study, name, seed)
            quality.append(_quality(study, name, seed, found, x))
            if name in CROSSCODERS:
                features.append(_features(found, x).assign(name=name))
                counted += _counted(name, counts(found, x), 0)
                if (second := found.about.get("again")) is not None:
                    counted += _counted(name, second["counts"], 1)
                    numbers = {k: v for k, v in second.items() if k != "counts"}
                    again.append({"name": name} | numbers)
        every = pd.concat(features, ignore_index=True)[FEATURES]
        asked = list(_asked(study, seed))
        return {
            "quality": pd.concat(quality, ignore_index=True),
            "features": every,
            "counts": pd.DataFrame(counted),
            "again": pd.DataFrame(again, columns=["name", "matching", "chance", "relative"]),
            "cards": _cards(study, seed, every[every.name == USED], asked),
            "effects": _effects(study, seed, every[every.name == USED], asked),
        }

    return study.frames("dictionaries", key, compute)


def tables(study: Study) -> Frames:
    """:func:`measured` of every training, with ``seed``; empty where models are too large."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for seed in study.pair.seeds if fits(study) else ():
        if study.has("arm", seed) and study.has("mdm", seed):
            for name, frame in measured(study, seed).items():
                parts.setdefault(name, []).append(frame.assign(seed=seed))
    return {
        name: pd.concat([f for f in frames if len(f)] or frames, ignore_index=True)
        for name, frames in parts.items()
    }


def _quality(study: Study, name: str, seed: int, found: Dictionary, x: Tensor) -> pd.DataFrame:
    share, active, rate = explained(found, x)
    views, texts = views_of(study, name, seed), held_out(study, seed)
    rows = []
    for number, (role, _) in enumerate(VIEWS[name]):
        row: dict[str, Any] = {"name": name, "model": role, "explained": share[number]}
        row |= {"active": active, "dead": int((rate == 0).sum()), "features": len(rate)}
        row |= {"tokens": len(x), "whole": np.nan, "reconstructed": np.nan, "mean": np.nan, "n": 0}
        # Beside an ARM that reads whole texts, features know what the masks hide.
        if len(views) == 1 or views[number].model.mask_id is None:
            found_losses, n = losses(views, found, texts, layer_of(study), number)
            row |= dict(zip(("whole", "reconstructed", "mean"), found_losses, strict=True))
            row["n"] = n
        row["recovered"] = (row["mean"] - row["reconstructed"]) / (row["mean"] - row["whole"])
        rows.append(row)
    return pd.DataFrame(rows)


def _features(found: Dictionary, x: Tensor) -> pd.DataFrame:
    """Live features of a crosscoder: whose they are, how often and how much they are active."""
    errors, decoded = latent_scaling(found, x)
    relative, active = relative_norm(found).double().numpy(), found.encode(x)
    size = active.mean(0) * found.norms()[:, 1] * found.scale[1]
    table = pd.DataFrame(
        {
            "feature": np.arange(found.n_features),
            "kind": kinds(relative),
            "relative": relative,
            "errors": errors,
            "decoded": decoded,
            "confirmed": confirmed(errors, decoded),
            "rate": (active > 0).double().mean(0).numpy(),
            "size": size.double().numpy(),
        }
    )
    return table[table.rate > 0]


def _counted(name: str, found: dict[str, int], start: int) -> list[dict[str, Any]]:
    return [
        {"name": name, "start": start, "kind": kind, "count": found[kind], "live": found["live"]}
        for kind in (*KINDS, "confirmed first", "confirmed second")
    ]


def _asked(study: Study, seed: int) -> Iterator[tuple[str, list[Item], dict[int, Text]]]:
    """Questions to the MDM on each task, and the whole text of each example."""
    readout = study.model("mdm", seed).readout
    for task in study.pair.tasks:
        examples = study.examples(task, seed)[: study.budget.dictionary_examples]
        items = [item for i, example in enumerate(examples) for item in readout.items(example, i)]
        yield task, items, {i: (*e.clean, *e.answer, *e.after) for i, e in enumerate(examples)}


def _states(
    views: list[View], layer: int, items: list[Item], whole: dict[int, Text], mask_id: int
) -> Iterator[tuple[Texts, Tensor]]:
    """Questions of one length as texts, with the streams of all views."""
    lengths = sorted({len(item.clean) for item in items})
    for length in lengths:
        some = [item for item in items if len(item.clean) == length]
        texts = asked_texts(some, [whole[item.example] for item in some], mask_id)
        yield texts, streams(views, texts, layer)


def _cards(
    study: Study, seed: int, features: pd.DataFrame, asked: list[tuple[str, list[Item], Any]]
) -> pd.DataFrame:
    """A row for each feature: what it promotes, what it is active on, and where."""
    found, views = dictionary_of(study, USED, seed), views_of(study, USED, seed)
    model, layer = views[1].model, layer_of(study)
    tokens: list[np.ndarray] = []
    active, task_of, masked, places = [], [], [], []
    for task, items, whole in asked:
        for texts, stream in _states(views, layer, items, whole, model.mask_id or 0):
            shown = views[1].shown(texts).numpy()
            row, position = texts.counted.nonzero(as_tuple=True)
            active.append(found.encode(stream[texts.counted]))
            masked.append(texts.hidden[texts.counted])
            task_of += [task] * len(row)
            places += [(len(tokens) + int(r), int(p)) for r, p in zip(row, position, strict=True)]
            tokens += list(shown)
    values, hidden = torch.cat(active), torch.cat(masked)
    promoted = _promoted(study, seed, found)
    of = np.array(task_of)
    cards = []
    for feature in features.feature:
        own = values[:, feature]
        order = own.argsort(descending=True, stable=True).tolist()
        on: list[str] = []
        contexts: list[str] = []
        for i in order[:40]:
            if own[i] <= 0:
                break
            text, position = places[i]
            on.append(_word(model.tokenizer, tokens[text][position]))
            context = _context(model.tokenizer, tokens[text], position)
            if context not in contexts and len(contexts) < CONTEXTS:
                contexts.append(context)
        common = Counter(on).most_common(1)
        role = role_of(on) if on else "–"
        card: dict[str, Any] = {"feature": feature, "promoted": promoted[feature]}
        card["on"] = common[0][0] if common and common[0][1] > len(on) / 2 else role
        fires = (own > 0).numpy()
        card["at masks"] = float(fires[hidden.numpy()].mean()) if hidden.any() else np.nan
        card["contexts"] = " | ".join(contexts)
        cards.append(card | {task: float(fires[of == task].mean()) for task, *_ in asked})
    return pd.DataFrame(cards, columns=[*CARDS, *(task for task, *_ in asked)])


def _word(tokenizer: Any, token: int) -> str:
    return str(tokenizer.decode([int(token)])).strip()


def _context(tokenizer: Any, ids: np.ndarray, position: int) -> str:
    """Tokens around a position, the one there in brackets."""
    start, end = max(0, position - AROUND), min(len(ids), position + AROUND + 1)
    words = [_word(tokenizer, ids[i]) for i in range(start, end)]
    words[position - start] = f"⟦{words[position - start]}⟧"
    return ("… " if start else "") + " ".join(words) + (" …" if end < len(ids) else "")


def _promoted(study: Study, seed: int, found: Dictionary) -> list[str]:
    """Tokens whose logits each feature's longer vector adds most to, on the direct path."""
    texts: list[list[str]] = []
    for number, (role, _) in enumerate(VIEWS[USED]):
        model = study.model(role, seed)
        unembedding = Unembedding.of(model)
        norm = Norm.of(model.anatomy, at(model.hf, model.anatomy.final_norm), torch.float32)
        vectors = found.decoder[:, number].to(model.device)
        if norm.centred:
            vectors = vectors - vectors.mean(-1, keepdim=True)
        top = ((vectors * norm.gain) @ unembedding.centred.T).topk(PROMOTED, dim=1).indices
        texts.append([" ".join(_word(model.tokenizer, i) for i in row) for row in top.tolist()])
    owner = found.norms().argmax(1).tolist()
    return [texts[model][feature] for feature, model in enumerate(owner)]


def chosen(features: pd.DataFrame) -> list[int]:
    """Features of the MDM only that latent scaling leaves to it, those that add most first."""
    own = features[(features.kind == KINDS[-1]) & features.confirmed]
    return [int(x) for x in own.sort_values("size", ascending=False).feature]


def stand_ins(features: pd.DataFrame, of: list[int], rng: np.random.Generator) -> list[int]:
    """For each feature one that the ARM has too and that adds about as much to the MDM's stream.

    It is drawn from the :data:`NEAREST` in size that weren't drawn before.
    """
    size = features.set_index("feature")["size"]
    others = features[features.kind.isin(KINDS[1:4])].feature.tolist()
    found: list[int] = []
    for feature in of:
        left = [x for x in others if x not in found]
        if not left:
            break
        near = sorted(left, key=lambda x: abs(size[x] - size[feature]))[:NEAREST]
        found.append(int(rng.choice(near)))
    return found


def _text_of(whole: dict[int, Text], item: Item) -> Text:
    return whole[item.example]


def _effects(
    study: Study, seed: int, features: pd.DataFrame, asked: list[tuple[str, list[Item], Any]]
) -> pd.DataFrame:
    """What is left of answer − distractor without features; ``what`` says which are taken out.

    ``all`` has all features; :data:`OTHERS` has a row a draw.
    """
    own, rng = chosen(features), np.random.default_rng(RESAMPLING_SEED)
    columns = ["task", "what", "feature", "difference", "features", "n"]
    if not own:
        return pd.DataFrame(columns=columns)
    drawn = [stand_ins(features, own, rng) for _ in range(DRAWS)]
    singly, others = own[:TAKEN], drawn[0][:TAKEN]
    sets = [own, *drawn, *([x] for x in singly), *([x] for x in others)]
    what = ["all", TOGETHER, *[OTHERS] * DRAWS]
    what += [ALONE] * len(singly) + [OTHER] * len(others)
    which = [-1] * (2 + DRAWS) + [*singly, *others]
    found, views = dictionary_of(study, USED, seed), views_of(study, USED, seed)
    rows = []
    for task, items, whole in asked:
        values = effects(
            views,
            found,
            layer_of(study),
            items,
            partial(_text_of, whole),
            sets,
            study.budget.batch_size,
        ).mean(1)
        about = {"task": task, "features": len(own), "n": len(whole)}
        rows += [
            about | {"what": a, "feature": b, "difference": float(c)}
            for a, b, c in zip(what, which, values, strict=True)
        ]
    return pd.DataFrame(rows, columns=columns)
