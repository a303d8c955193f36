"""The value of an equation, and the equations that numbers allow, by Python's own arithmetic."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mechshift_lib.tasks.countdown import OPERATORS, evaluate, solutions

numbers = st.lists(st.integers(0, 99), min_size=1, max_size=6)


@given(numbers, st.lists(st.sampled_from(OPERATORS), min_size=5, max_size=5))
def test_a_chain_has_the_value_that_python_gives_it(values: list[int], operators: list[str]):
    chain = str(values[0])
    for operator, value in zip(operators, values[1:], strict=False):
        chain += f" {operator} {value}"
    assert evaluate(chain) == eval(chain)  # of digits and operators only


@given(
    st.lists(st.integers(1, 20), min_size=3, max_size=4, unique=True),
    st.sampled_from([("+", "-"), OPERATORS, ("*",)]),
)
def test_solutions_are_all_targets_by_the_first_equation_of_the_rule(values, operators):
    found = solutions(tuple(values), 60, operators)
    expected: dict[int, list[str]] = {}
    for order in itertools.permutations(values):
        for chain in itertools.product(operators, repeat=len(values) - 1):
            text = str(order[0]) + "".join(
                f" {o} {n}" for o, n in zip(chain, order[1:], strict=True)
            )
            if 1 <= eval(text) <= 60:
                expected.setdefault(eval(text), []).append(text)
    assert set(found) == set(expected)
    for target, equation in found.items():
        costs = [(text.count("*"), text.count("-")) for text in expected[target]]
        assert (equation.count("*"), equation.count("-")) == min(costs)
        assert equation in expected[target]


def test_what_is_no_chain_has_no_value():
    for text in ("", "3 +", "+ 3", "3 3", "3 / 4", "a + b", "3 ** 4", "-3 + 4", "3.0 + 1"):
        assert evaluate(text) is None
    assert evaluate("007 * 2") == 14
