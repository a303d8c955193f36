"""Similarities of circuits: by hand, by invariance, and what is left once noise is divided out."""

from __future__ import annotations

import numpy as np
import pytest

from mechshift_lib.comparison import similarity as S
from mechshift_lib.errors import CircuitError

RNG = np.random.default_rng(3)
A = RNG.standard_normal((4, 60)) ** 3
B = RNG.standard_normal((4, 60)) ** 3


@pytest.mark.parametrize("name", S.measures(6))
def test_every_measure_is_1_for_equal_circuits_and_symmetric(name: str) -> None:
    of = S.measures(6)[name]
    assert of(A, A) == pytest.approx(np.ones(4))
    assert of(A, B) == pytest.approx(of(B, A))
    assert (of(A, B) < 0.9).all()
    assert of(A, B)[2] == pytest.approx(float(of(A[2], B[2])))
    # The size of all scores together says nothing of a circuit.
    assert of(3 * A, B) == pytest.approx(of(A, B))


def test_by_hand() -> None:
    a, b = np.array([3.0, -1.0, 0.0]), np.array([0.0, 4.0, 0.0])
    assert float(S.cosine(a, b)) == pytest.approx(-1 / np.sqrt(10))
    # Shares (3/4, 1/4, 0) and (0, 1, 0): the smaller add up to 1/4, the larger to 7/4.
    assert float(S.weighted_jaccard(a, b)) == pytest.approx(1 / 7)
    assert float(S.top_jaccard(a, b, 1)) == 0.0
    assert float(S.top_jaccard(a, b, 2)) == 1.0  # of the two zeros of b, the first
    assert np.isnan(S.cosine(a, np.zeros(3)))


def test_rank_biased_overlap_is_the_literal_sum() -> None:
    def literal(a: np.ndarray, b: np.ndarray, p: float) -> float:
        x, y = (np.argsort(-np.abs(z), kind="stable").tolist() for z in (a, b))
        depths = range(1, len(x) + 1)
        terms = [p ** (d - 1) * len(set(x[:d]) & set(y[:d])) / d for d in depths]
        return sum(terms) / sum(p ** (d - 1) for d in depths)

    found = S.rank_biased_overlap(A, B, 0.9)
    assert found == pytest.approx([literal(a, b, 0.9) for a, b in zip(A, B, strict=True)])


def noisy(mean: np.ndarray, n: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    return mean + noise * rng.standard_normal((n, len(mean)))


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_the_corrected_cosine_is_that_without_noise(noise: float) -> None:
    rng = np.random.default_rng(5)
    a = rng.standard_normal(3000)
    b = 0.8 * a + 0.6 * rng.standard_normal(3000)
    truth = float(S.cosine(a, b))
    found = S.corrected(noisy(a, 40, noise, rng), noisy(b, 40, noise, rng), S.cosine)
    assert found.value == pytest.approx(truth, abs=0.02)
    plain = float(S.cosine(noisy(a, 40, noise, rng).mean(0), noisy(b, 40, noise, rng).mean(0)))
    assert plain < truth
    assert found.between < found.ceiling < 1


def test_noise_alone_is_corrected_to_1_for_every_measure() -> None:
    rng = np.random.default_rng(6)
    mean = rng.standard_normal(500) ** 3
    one, other = noisy(mean, 60, 2.0, rng), noisy(mean, 60, 2.0, rng)
    for name, of in S.measures(25).items():
        assert S.corrected(one, other, of).value == pytest.approx(1.0, abs=0.05), name


def test_the_table_has_every_measure_of_every_comparison() -> None:
    rng = np.random.default_rng(7)
    mean = rng.standard_normal(80)
    others = {
        "mdm": noisy(rng.standard_normal(80), 8, 0.1, rng),
        "control": noisy(mean, 8, 0.1, rng),
    }
    rows = S.table(noisy(mean, 8, 0.1, rng), others, 8)
    assert len(rows) == 2 * len(S.measures(8))
    by = {(row["comparison"], row["measure"]): row for row in rows}
    for name in S.measures(8):
        assert by["control", name]["corrected"] > by["mdm", name]["corrected"]
        assert by["control", name]["n"] == 8


def test_halves_need_the_same_examples_and_four_of_them() -> None:
    with pytest.raises(CircuitError, match="at least 4"):
        S.corrected(A[:3], B[:3], S.cosine)
    with pytest.raises(CircuitError, match="same examples"):
        S.corrected(A, B[:3], S.cosine)


def test_a_way_between_two_circuits_by_hand() -> None:
    """From the first axis to the second, by way of the diagonal; sizes make no difference."""
    start, end = np.array([[1.0, 0, 0]] * 3), np.array([[0, 5.0, 0]] * 3)
    middle = np.array([[2.0, 2, 0]] * 3)
    # Directions (1, 0), (r, r), (0, 1) with r = √½: ⟨(r - 1, r), (-1, 1)⟩ / 2 = ½.
    way, length = S.way_gone(start, middle, end)
    assert (way, length) == (pytest.approx(0.5), pytest.approx(2))
    assert S.way_gone(start, start, end)[0] == 0
    assert S.way_gone(start, end, end)[0] == pytest.approx(1)
    assert np.isnan(S.way_gone(start, middle, start)[0])
    with pytest.raises(CircuitError, match="at least 2"):
        S.way_gone(start[:1], middle[:1], end[:1])


def test_noise_is_no_way() -> None:
    """Two estimates of one circuit lie apart by noise: the squared distance is 0 on average."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200)
    lengths, plain = [], []
    for _ in range(200):
        a, b = (truth + 3 * rng.normal(size=(4, 200)) for _ in range(2))
        lengths.append(S.way_gone(a, a, b)[1])
        sides = [x.mean(0) / np.linalg.norm(x.mean(0)) for x in (a, b)]
        plain.append(float(np.square(sides[0] - sides[1]).sum()))
    assert abs(np.mean(lengths)) < 4 * np.std(lengths) / np.sqrt(200)
    assert np.mean(plain) > 0.5
