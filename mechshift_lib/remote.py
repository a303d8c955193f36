"""What runs on NDIF's machines, and what can't, each with its reason.

With ``--remote`` the passes of a model run where it is served
(`NDIF <https://ndif.us>`_); what is worked out from them, and the weights that this takes, stay
here. The one table of it is :data:`CALLS` for commands and :data:`MODELS` for models; the command
line refuses by it, before anything is fetched, and the book shows it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mechshift_lib.errors import ConfigError

#: Names of the places: NDIF itself, and nnsight's simulation of it in this process.
NDIF, SIMULATED = "ndif", "local"


@dataclass(frozen=True)
class Remote:
    """Where the passes of a model run.

    Attributes:
        where: :data:`NDIF`, :data:`SIMULATED`, or the address of another host.
        repo: ``owner/name`` of the hub, by which the host knows the model.
        revision: the revision that was asked for; ``None`` for the one that is served.
    """

    where: str
    repo: str
    revision: str | None = None


@dataclass(frozen=True)
class Call:
    """A command, or a form of it, and whether it can run remotely.

    Attributes:
        name: as it is typed.
        why_not: why it can't, a clause behind "because"; empty where it can.
        instead: what the user can do then.
    """

    name: str
    why_not: str = ""
    instead: str = "leave out --remote"

    @property
    def remote(self) -> bool:
        """Whether it can."""
        return not self.why_not


_GRADIENTS = "gradients are taken behind the passes, and what NDIF sends back has none"
_CHAPTERS = "chapters take gradients and read all weights, and NDIF sends back neither"

#: Every command that runs a model.
CALLS: tuple[Call, ...] = (
    Call("patch"),
    Call("patch --senders"),
    Call("attribute --method exact"),
    Call("attribute", _GRADIENTS, "say --method exact, or leave out --remote"),
    Call(
        "evaluate",
        "between any two layers it works out what readers take in, with objects of this process",
    ),
    Call("run", _CHAPTERS),
    Call("export-circuit", _GRADIENTS),
    Call("ship", _CHAPTERS),
    Call("doctor", "it tells whether this machine can run a model"),
    Call("train", "NDIF doesn't train"),
    Call("lens", "it trains, and NDIF doesn't"),
    Call("dictionaries", "it trains, and NDIF doesn't"),
    Call("trajectory", "checkpoints of a training are folders of this machine"),
)

#: Commands that have the option, so that they say why they can't.
OPTION: tuple[str, ...] = ("attribute", "evaluate", "patch")

_AS_IT_IS = "NDIF serves a model as it is published"
#: What a model mustn't be: by a short name, the call that is refused.
MODELS: dict[str, Call] = {
    "folder": Call(
        "A folder", "NDIF serves models of the hub", "give owner/name, or leave out --remote"
    ),
    "adapter": Call("An adapter", f"it is merged into weights here, and {_AS_IT_IS}"),
    "kv": Call(
        "Ungrouped key/value heads",
        f"this model shares them, they are copied apart here, and {_AS_IT_IS}",
        "say --kv grouped",
    ),
    "attention": Call("Full attention", f"it is set here, and {_AS_IT_IS}"),
    "quantization": Call(
        "Weights in 8 or 4 bits",
        f"they are rounded here, and {_AS_IT_IS}",
        "leave out --quantization or --remote",
    ),
    "device": Call(
        "A device of this machine", "the passes aren't run here", "leave out --device or --remote"
    ),
    "device_map": Call(
        "A model that is spread over this machine's devices",
        "the passes aren't run here",
        "leave out --device-map or --remote",
    ),
}


def check_call(name: str) -> None:
    """Refuse a call that can't run remotely.

    Raises:
        ConfigError: it can't; the sentence says why.
    """
    call = next(call for call in CALLS if call.name == name)
    if not call.remote:
        raise ConfigError(_sentence(f"mechshift {call.name}", call))


def refused(what: str) -> ConfigError:
    """The error for a model that is one of :data:`MODELS`."""
    return ConfigError(_sentence(MODELS[what].name, MODELS[what]))


def _sentence(subject: str, call: Call) -> str:
    return f"{subject} can't run remotely, because {call.why_not}: {call.instead}."


def table() -> str:
    """The table as the book shows it (Markdown)."""
    lines = ["| What | Runs remotely | Why not |", "|---|---|---|"]
    for call in CALLS:
        lines.append(
            f"| `mechshift {call.name}` | {'yes' if call.remote else 'no'} | {call.why_not} |"
        )
    lines += [
        f"| {call.name[0].lower()}{call.name[1:]} | no | {call.why_not} |"
        for call in MODELS.values()
    ]
    return "\n".join(lines)
