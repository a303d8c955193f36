"""What colours, signs and intervals mean on every page, written from what draws them."""

from __future__ import annotations

from html import escape

from mechshift_lib.comparison.over_seeds import LEVEL, SHOWN
from mechshift_lib.comparison.verdicts import OUTCOMES
from mechshift_lib.plots.palette import COMPARISON_COLORS, OUTCOME_COLORS, ROLE_COLORS, variable
from mechshift_lib.plots.theme import OUTCOME_SIGNS, label

#: What each model or circuit is, in the order of the table.
MODELS = {
    "arm": "the autoregressive model that everything starts from",
    "mdm": "the masked diffusion model post-trained from it",
    "continued": "the control: the same start and as many tokens, trained on autoregressively",
    "matched": "the MDM at the step where its weights had moved as far as the control's in the end",
    "mdm-own": "the MDM, its tokens revealed in the order that it chooses itself",
    "mdm-causal": "an MDM that was trained, and attends, causally",
    "mdm-answers": "an MDM in whose training only answers were masked",
    "random": "chosen at random, as many",
}
#: What each comparison is held to be.
COMPARISONS = {
    "arm-mdm": "what is asked",
    "arm-continued": "what more training of the old kind does",
    "arm-halves": "what noise leaves: two halves of the same examples",
    "mdm-halves": "the same of the MDM",
    "arm-mdm-halves": "what is asked, as noisy as the halves",
    "arm-seeds": "what two trainings from other random starts have in common",
}
#: What each outcome of a claim says.
MEANINGS = {
    "reproduced": "the effect has the claim's sign on every yardstick, and is clear of 0",
    "not reproduced": "an effect as large as would matter is ruled out",
    "reversed": "the effect has the other sign on every yardstick, and is clear of 0",
    "undecided": "the interval allows both; nothing is shown, and nothing is shown not to be",
    "doesn't apply": "the pair can't be asked, for a reason that is said",
    "not measured": "nobody has looked",
}


def _swatch(color: str) -> str:
    return f'<span class="swatch" style="background:{variable(color)}" aria-hidden="true"></span>'


def _rows(colors: dict[str, str], words: dict[str, str]) -> str:
    return "".join(
        f"<tr><td>{_swatch(colors[name])}</td><td>{escape(label(name))}</td>"
        f"<td>{escape(text)}</td></tr>"
        for name, text in words.items()
    )


def _table(head: tuple[str, ...], rows: str) -> str:
    cells = "".join(f'<th scope="col">{one}</th>' for one in head)
    return (
        f'```{{raw}} html\n<table class="table legend"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{rows}</tbody></table>\n```\n"
    )


def legend_page() -> str:
    """The three tables of the page on how to read this book, as MyST."""
    outcomes = "".join(
        f'<tr><td><span style="color:{OUTCOME_COLORS[one]}">{OUTCOME_SIGNS[one]}</span></td>'
        f"<td>{escape(one)}</td><td>{escape(MEANINGS[one])}</td></tr>"
        for one in OUTCOMES
    )
    parts = [
        _table(("Colour", "Model", "What it is"), _rows(ROLE_COLORS, MODELS)),
        _table(
            ("Colour", "Comparison", "What it stands for"), _rows(COMPARISON_COLORS, COMPARISONS)
        ),
        _table(("Sign", "Outcome", "What it says"), outcomes),
        f"Intervals of verdicts, and of figures beside one, are of {100 * LEVEL:.0f} % over "
        f"trainings. All others are of {100 * SHOWN:.0f} %, over trainings or over examples, as "
        "stands beside them.\n",
    ]
    return "\n".join(parts)
