"""A language model on this machine that explains neurons, in the place of rules.

The three steps of Bills et al. (2023): the model is shown tokens with activations from 0 to 9 and
says what the neuron responds to; it is then told that sentence and the tokens of other texts, and
what it expects of the next digit is the simulated activation. Any causal model in a folder will do;
nothing is ever downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from mechshift_lib.errors import ModelError
from mechshift_lib.semantics.explaining import Array, Explanation, Floats
from mechshift_lib.semantics.rules import Text

#: How its files are opened: nothing is downloaded, and no code of theirs is run.
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
#: Texts that it is shown, with the neuron's largest activations first.
SHOWN = 4
#: Tokens that an explanation may have.
LONGEST = 24
_EXPLAIN = (
    "We study a neuron of a language model. Each token has its activation, 0 to 9.\n\n"
    "{texts}\n\nThe neuron responds to"
)
_SIMULATE = (
    "A neuron of a language model responds to {said}.\nEach token has its activation, 0 to 9.\n\n"
)


class LocalExplainer:
    """Explains and simulates by a causal language model (see :mod:`.explaining`).

    Attributes:
        texts: what neurons were recorded on.
        where: text and position of every activation, ``[n_position, 2]``.
    """

    def __init__(self, folder: Path, texts: Sequence[Text], where: NDArray[np.int64]) -> None:
        """Load the model.

        Raises:
            ModelError: there is no such folder, or no causal model with a tokenizer in it that has
                a token for each digit.
        """
        if not folder.is_dir():
            raise ModelError(f"There is no folder {folder}: give one with a language model.")
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, **_LOCAL)
            self._model: Any = AutoModelForCausalLM.from_pretrained(folder, **_LOCAL)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"{folder} holds no causal language model with a tokenizer: give a folder that "
                "transformers can load."
            ) from error
        self._model.eval()
        self.texts, self.where = texts, where
        self._digits = [self._ids(str(digit)) for digit in range(10)]
        if any(len(one) != 1 for one in self._digits):
            raise ModelError(f"The tokenizer in {folder} has no token for each digit: use another.")

    def explain(self, activations: Floats, positions: NDArray[np.int64]) -> list[Explanation]:
        """What the model says that each neuron responds to (see :class:`.Explainer`)."""
        return [
            Explanation(self._said(activations[:, i], positions), 1.0, 0.0)
            for i in range(activations.shape[1])
        ]

    def simulate(self, explanations: Sequence[Explanation], positions: NDArray[np.int64]) -> Array:
        """The digit that the model expects at each token, 0 to 9 (see :class:`.Explainer`)."""
        found = np.empty((len(positions), len(explanations)))
        asked = self.where[positions]
        for column, one in enumerate(explanations):
            for text in np.unique(asked[:, 0]):
                rows = asked[:, 0] == text
                found[rows, column] = self._expected(one.said, self.texts[text])[asked[rows, 1]]
        return found

    @torch.no_grad()
    def _said(self, x: Floats, positions: NDArray[np.int64]) -> str:
        where = self.where[positions]
        low, high = float(x.min()), float(x.max())
        digits = np.round(9 * (x - low) / (high - low if high > low else 1)).astype(int)
        strongest = where[np.argsort(-x, kind="stable"), 0]
        shown = list(dict.fromkeys(strongest.tolist()))[:SHOWN]
        lines = [
            "\n".join(
                f"{self.texts[text].tokens[p]}\t{digits[row]}"
                for row, (i, p) in enumerate(where.tolist())
                if i == text
            )
            for text in shown
        ]
        ids = torch.tensor([self._ids(_EXPLAIN.format(texts="\n\n".join(lines)))])
        made = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=LONGEST,
            do_sample=False,
            pad_token_id=self._model.config.eos_token_id or 0,
        )
        said = self._tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        return " ".join(said.strip().split("\n")[0].split()).rstrip(".")

    @torch.no_grad()
    def _expected(self, said: str, text: Text) -> Array:
        """Expected digit at every token of a text, in one pass over all of them."""
        ids, reads = self._ids(_SIMULATE.format(said=said)), []
        for token in text.tokens:
            ids = ids + self._ids(f"{token}\t")
            reads.append(len(ids) - 1)
            ids = ids + self._ids("unknown\n")
        logits = self._model(torch.tensor([ids])).logits[0, reads]
        shares = logits[:, [one for [one] in self._digits]].double().softmax(-1)
        expected: Array = (shares @ torch.arange(10.0, dtype=torch.float64)).numpy()
        return expected

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return found
