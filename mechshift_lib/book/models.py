"""The models of the pairs in a table: shape, size and training, from their own files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mechshift_lib.config import ROOT, FolderSource, Pair, WheelSource
from mechshift_lib.diffusion.logs import log_of, logged_in
from mechshift_lib.plots.theme import count_text, label


def shape(pair: Pair, root: Path = ROOT) -> dict[str, Any]:
    """Architecture and size of a pair's ARM, read from its checkpoint's own description.

    Returns:
        ``architecture, layers, heads, kv_heads, width``, and where the weights are there also
        ``parameters`` and ``weights`` (how they are stored).
    """
    source = pair.arm.at_seed(pair.seeds[0]).source
    if isinstance(source, FolderSource):
        from transformers import AutoConfig  # seconds to import

        from mechshift_lib.models.architectures import anatomy_of
        from mechshift_lib.models.shape import shape_of

        folder = root / source.path
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        found = shape_of(config, anatomy_of(config))
        return {
            "architecture": config.architectures[0],
            "layers": found.n_layers,
            "heads": found.n_heads,
            "kv_heads": found.n_kv_heads,
            "width": found.d_model,
            **_stored(folder),
        }
    if isinstance(source, WheelSource):
        return _gguf(source)
    return {"architecture": source.repo}


def _stored(folder: Path) -> dict[str, Any]:
    """Number of parameters and their type, from the headers of a folder's safetensors."""
    from safetensors import safe_open

    count, kinds = 0, set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118, it is no dictionary
                tensor = file.get_slice(name)
                count += math.prod(tensor.get_shape())
                kinds.add(str(tensor.get_dtype()))
    return {"parameters": count, "weights": ", ".join(sorted(kinds))} if count else {}


def _gguf(source: WheelSource) -> dict[str, Any]:
    """What a GGUF file says of itself."""
    import importlib.metadata

    from gguf import GGUFReader, LlamaFileType

    file = importlib.metadata.distribution(source.distribution).locate_file(source.file)
    reader = GGUFReader(str(file))
    fields = reader.fields
    name = fields["general.architecture"].contents()
    kind = LlamaFileType(fields["general.file_type"].contents()).name.removeprefix("MOSTLY_")
    return {
        "architecture": str(name).capitalize(),
        "layers": fields[f"{name}.block_count"].contents(),
        "heads": fields[f"{name}.attention.head_count"].contents(),
        "kv_heads": fields[f"{name}.attention.head_count_kv"].contents(),
        "width": fields[f"{name}.embedding_length"].contents(),
        "parameters": sum(int(tensor.n_elements) for tensor in reader.tensors),
        "weights": f"{kind} (GGUF)",
    }


def pairs_table(pairs: Sequence[Pair], root: Path = ROOT) -> str:
    """Markdown table of the pairs, from their files and checkpoints."""
    head = ["pair", "architecture", "layers × heads (KV)", "width"]
    head += ["parameters (stored as)", "tasks", "training seeds"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for pair in pairs:
        has = shape(pair, root)
        size = f"{has['layers']} × {has['heads']} ({has['kv_heads']})" if "layers" in has else "–"
        cells = (
            f"**{pair.title}** (`{pair.name}`)",
            has["architecture"].removesuffix("ForCausalLM"),
            size,
            str(has.get("width", "–")),
            f"{has['parameters']:,} ({has['weights']})" if "parameters" in has else "–",
            ", ".join(pair.tasks),
            ", ".join(map(str, pair.seeds)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def trainings_table(pairs: Sequence[Pair], root: Path = ROOT) -> str:
    """Markdown table of how long each model was trained, from the logs beside the weights."""
    lines = ["| pair | model | steps | tokens of a training |", "|---|---|---|---|"]
    for pair in pairs:
        for role in pair.roles:
            logs = [logged_in(log_of(pair, role, seed, root)) for seed in pair.seeds]
            known = pd.DataFrame([log for log in logs if log])
            steps, tokens = (
                (count_text(known[name]) for name in ("steps", "tokens")) if len(known) else "––"
            )
            lines.append(f"| {pair.title} | {label(role)} | {steps} | {tokens} |")
    return "\n".join(lines)


def pairs_page(pairs: Sequence[Pair], root: Path = ROOT) -> str:
    """Markdown of :func:`pairs_table` and the pairs' descriptions."""
    described = [f"*{pair.title}*: {pair.description.strip()}\n" for pair in pairs]
    return "\n".join([pairs_table(pairs, root), "", *described])
