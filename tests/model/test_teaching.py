"""What answers say of other images, and what is asked: small sets by hand."""

import numpy as np
import pytest

from mca_jax import Constraints, InputError
from mca_jax.model.constraints import as_constraints, close_constraints
from mca_jax.model.questions import TOGETHER, WHICH, Question, choose_questions
from mca_jax.model.teaching import Points, central_rows, spread_answers
from mca_jax.model.tree import ClusterTree
from mca_jax.neighbors.tree import grow_tree

SIZE = 12


def four_kinds():
    """Twelve images each of four kinds, as two clusters of two kinds."""
    random = np.random.default_rng(0)
    rows = np.repeat(np.eye(4, 6), SIZE, axis=0)
    rows = rows + random.normal(scale=0.05, size=rows.shape)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    start = np.repeat([0, 1], 2 * SIZE).astype(np.int32)
    return Points(rows, rows), start, np.repeat(np.arange(4), SIZE)


def close(said, count=4 * SIZE):
    return close_constraints(as_constraints(said, [""] * count), count)


def spread(said, ids=(0, 1)):
    points, start, _ = four_kinds()
    return spread_answers(points, start, ids, close(said), next_id=max(ids) + 1)


def test_nothing_said_changes_nothing():
    _, start, _ = four_kinds()
    found = spread(Constraints())
    np.testing.assert_array_equal(found.assignments, start)
    assert found.ids == (0, 1)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0, rtol=1e-5)


def test_a_label_takes_its_kind_along():
    # Image 0 is of a group of its own, and so are the eleven like it.
    found = spread(Constraints(labels=[(0, 9), (SIZE, 0)]))
    assert found.ids == (0, 1, 2)
    assert found.given == {9: 2}
    groups = found.assignments.reshape(4, SIZE)
    assert (groups == groups[:, :1]).all()
    assert groups[:, 0].tolist() == [2, 0, 1, 1]


def test_an_image_apart_from_every_group_makes_one():
    points, start, _ = four_kinds()
    leads = central_rows(points.smoothed, start, 2)
    other = 0 if leads[0] >= SIZE else SIZE
    found = spread(Constraints(cannot_link=[(other, leads[0]), (other, leads[1])]))
    assert found.ids == (0, 1, 2)
    alike = np.arange(other, other + SIZE)
    assert (found.assignments[alike] == 2).all()


def test_groups_whose_middles_are_linked_are_one():
    points, start, _ = four_kinds()
    one, two = central_rows(points.smoothed, start, 2).tolist()
    found = spread(Constraints(must_link=[(one, two)]), ids=(3, 7))
    assert found.ids in ((3,), (7,))
    assert len(found.merged) == 1
    assert set(found.merged) | set(found.merged.values()) == {3, 7}


@pytest.mark.parametrize("draw", range(6))
def test_whatever_is_said_holds(draw):
    random = np.random.default_rng(draw)
    kinds = random.integers(5, size=4 * SIZE)
    pairs = random.integers(4 * SIZE, size=(30, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    same = kinds[pairs[:, 0]] == kinds[pairs[:, 1]]
    said = Constraints(must_link=pairs[same], cannot_link=pairs[~same])
    groups = spread(said).assignments
    assert (groups[pairs[same, 0]] == groups[pairs[same, 1]]).all()
    assert (groups[pairs[~same, 0]] != groups[pairs[~same, 1]]).all()


def test_the_process_is_that_of_scikit_learn():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    from mca_jax.model import teaching

    points, start, _ = four_kinds()
    known = np.array([0, 13, 30])
    wanted = np.eye(2)[[1, 0, 1]]
    mean = teaching._Mean(start, 0.3)
    found = teaching._scores(points, mean, (known, wanted), 2, None)
    # exp(3 (cos - 1)) of unit vectors is exp(-|a - b|^2 / (2 l^2)) with l^2 = 1 / 3.
    process = GaussianProcessRegressor(
        RBF(3**-0.5, length_scale_bounds="fixed"), alpha=0.1, optimizer=None
    )
    process.fit(points.plain[known], wanted - mean.at(known, 2))
    rows = np.arange(len(start))
    expected = mean.at(rows, 2) + process.predict(points.plain)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def ask(said, count, **options):
    points, start, _ = four_kinds()
    belief = spread(said)
    grown = grow_tree(points.smoothed, start, least=2)
    nodes = 2 * len(grown.splits) + 1
    tree = ClusterTree(*grown, ("",) * nodes, (False,) * nodes, 2)
    return choose_questions(points, belief, close(said), tree, count, **options)


def test_nothing_that_follows_is_asked_again():
    _, _, kinds = four_kinds()
    said, seen = Constraints(), set()
    for _ in range(40):
        asked = ask(said, 1, choices=1)
        if not asked:
            break
        pair = frozenset((asked[0].a, asked[0].b))
        assert pair not in seen
        assert not close(said).knows(*pair)
        seen.add(pair)
        same = kinds[asked[0].a] == kinds[asked[0].b]
        said = said.join(asked[0].answer(*[asked[0].b] * int(same)))
    found = spread(said).assignments.reshape(4, SIZE)
    assert (found == found[:, :1]).all()
    assert len(set(found[:, 0].tolist())) == 4


def test_questions_are_of_several_groups_and_skip_what_is_skipped():
    asked = ask(Constraints(), 4, choices=1)
    assert len({each.groups[1] for each in asked}) == 2
    pairs = [(each.a, each.b) for each in asked]
    assert len(set(pairs)) == 4
    again = ask(Constraints(), 4, choices=1, skip=pairs)
    assert not {(each.a, each.b) for each in again} & set(pairs)


def test_choices_stand_for_different_groups():
    first = next(each for each in ask(Constraints(), 4) if each.kind != "same")
    assert first.text == WHICH
    assert first.b == first.choices[0]
    assert len(set(first.choices)) == 2
    assert sorted(first.groups[1:]) == [0, 1]
    # Who can't tell of one of them can't tell of the image.
    again = ask(Constraints(), 4, skip=[(first.choices[1], first.a)])
    assert first.a not in [each.a for each in again if each.kind != "same"]


def test_an_answer_says_all_that_it_shows():
    asked = Question("border", 4, 1, WHICH, (0, 0), 1.0, (1, 2, 3))
    assert asked.answer(2).must_link == [(4, 2)]
    assert asked.answer(2).cannot_link == [(4, 1), (4, 3)]
    assert asked.answer(1, 3).must_link == [(4, 1), (4, 3)]
    assert asked.answer().cannot_link == [(4, 1), (4, 2), (4, 3)]
    with pytest.raises(InputError, match="found 9"):
        asked.answer(9)


def test_pairs_are_asked_as_pairs():
    assert all(each.text == TOGETHER for each in ask(Constraints(), 3, choices=1))


def test_held_out_answers_are_those_of_a_process_without_them():
    from mca_jax.model import teaching

    points, start, _ = four_kinds()
    said = {0: 1, 1: 1, 13: 0, 30: 0, 40: 1}
    rows = np.array([5, 25, *said])
    wanted = np.eye(2)[[0, 1, *said.values()]]
    mean = teaching._Mean(start, 0.3)
    right = 0
    for place in range(2, len(rows)):
        others = np.delete(np.arange(len(rows)), place)
        found = teaching._scores(
            points, mean, (rows[others], wanted[others]), 2, rows[place : place + 1]
        )
        right += int(found.argmax() == wanted[place].argmax())
    known = int((start[list(said)] == list(said.values())).sum())
    found = teaching._held_out(points, mean, (rows, wanted), [5, 25])
    assert found == (right, known)
    assert 0 < right < len(said)


def test_taken_literally_only_what_was_said_moves():
    points, start, _ = four_kinds()
    one, two = central_rows(points.smoothed, start, 2).tolist()
    other = next(row for row in range(4 * SIZE) if start[row] == 0 and row != one)
    said = Constraints(must_link=[(one, two)], labels=[(other, 9)])
    found = spread_answers(points, start, (0, 1), close(said), next_id=2, literal=True)
    # Two clusters stay two, though the images that stand for them are together.
    assert (found.ids, found.merged) == ((0, 1, 2), {})
    moved = np.flatnonzero(found.assignments != start).tolist()
    assert other in moved
    assert len(moved) == 2
    assert found.assignments[one] == found.assignments[two]
