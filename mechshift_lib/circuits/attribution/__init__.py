"""Scores of edges, nodes and neurons: from gradients at interpolation points, or exact.

    score(u → v) = Σ (a_u^clean − a_u^corrupted) · ∂M/∂(input of v)      (difference × gradient)

The literal version, by plain autograd and one edge at a time, is ``literal_scores`` in
``tests/support/literal.py``, and the page "EAP-IG by hand" writes it in a notebook. Here:

- ``plan``: what is asked for, and the methods that there are;
- ``edges``, ``nodes``, ``neurons``, ``exact``: a method each, all over the one ``loop``;
- ``points``: where gradients are taken; ``gradients``: those at the readers, without a copy of the
  residual stream per head; ``products``: difference × gradient, many at once;
- ``scores``: from items to examples.
"""

from mechshift_lib.circuits.attribution.edges import attribute

__all__ = ["attribute"]
