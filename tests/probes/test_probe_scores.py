"""The table of probes, its controls, and whether its intervals and p-values mean what they say."""

import numpy as np
import pytest
from probes.labelled import rows, splits
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from steerlens.errors import EstimateError, OptionError, UnknownNameError
from steerlens.numerics import bootstrap
from steerlens.numerics._codes import codes_of
from steerlens.probes._families import KernelProbe, LogisticProbe, MLPProbe, NearestNeighbours
from steerlens.probes._information import v_information
from steerlens.probes._intervals import auroc_interval, mean_interval, share_interval
from steerlens.probes._permutation import auroc_null, auroc_p_value, least_p_value, permuted_labels
from steerlens.probes._recalibration import bits
from steerlens.probes._scores import Scores, probe_table

SOME = (LogisticProbe(), NearestNeighbours(), MLPProbe(16))
N = 60


@pytest.fixture(scope="module")
def linear():
    return splits("linear", 80), probe_table(*splits("linear", 80), probes=SOME)


def test_scores_are_those_of_scikit_learn(linear):
    (_, _, test), table = linear
    for result in table.results:
        s, y = result.scores, test.labels()
        assert s.auroc.value == pytest.approx(np.mean([roc_auc_score(y, o) for o in result.log_odds]))
        p = 1 / (1 + np.exp(-result.log_odds))
        assert s.nll.value == pytest.approx(np.mean([log_loss(y, q) for q in p]) / np.log(2))
        assert s.accuracy.value == pytest.approx(((result.log_odds > 0) == y).mean())
        assert s.accuracy.n == 160
        assert s.accuracy.n_clusters == 160


def test_probes_beat_their_controls_where_there_is_something(linear):
    table = linear[1]
    for r in table.results:
        assert r.scores.accuracy.low > table.majority.high
        assert r.scores.nll.high < table.base.low
        assert r.p_value == pytest.approx(0.001)
        assert abs(r.permuted.accuracy.value - 0.5) < 0.15
        assert r.permuted.nll.value > 0.9
    assert table.base.value == pytest.approx(1.0)


def test_nothing_is_found_in_nothing():
    table = probe_table(*splits("null", 80), probes=SOME)
    for r in table.results:
        assert r.scores.accuracy.low < 0.5 < r.scores.accuracy.high
        assert r.scores.auroc.low < 0.5 < r.scores.auroc.high
        assert r.p_value > 0.01
        assert v_information(table, r.name).information.low < 0


def test_the_frame_has_a_row_for_each_probe_and_every_control(linear):
    frame = linear[1].to_frame()
    assert list(frame["probe"]) == ["logistic", "knn", "mlp-16"]
    for metric in ("auroc", "accuracy", "nll"):
        assert (frame[f"{metric}_low"] <= frame[metric]).all()
        assert (frame[metric] <= frame[f"{metric}_high"]).all()
        assert frame[f"permuted_{metric}"].notna().all()
    assert (frame["majority_accuracy"] == 0.5).all()
    assert "majority" in str(linear[1])


def test_equal_calls_give_equal_tables(linear):
    (parts), table = linear
    again = probe_table(*parts, probes=SOME)
    assert again.to_frame().equals(table.to_frame())


def test_usable_information_is_the_mean_of_its_points(linear):
    _, table = linear
    found = v_information(table, "logistic")
    assert found.pvi.mean() == pytest.approx(found.information.value)
    assert found.information.value == pytest.approx(table.base.value - table["logistic"].scores.nll.value)
    assert found.information.low > 0.5
    assert found.pvi.max() <= 1.0


def test_usable_information_of_a_known_channel():
    # y seen through a symmetric channel that flips one in ten: I = 1 − H(0.1) = 0.531 bits.
    generator = np.random.default_rng(0)
    import torch

    from steerlens.probes._rows import LabelledRows

    def channel(n, name):
        y = np.arange(n) % 2
        x = np.stack([y ^ (generator.random(n) < 0.1), generator.normal(size=n)], axis=1).astype(float)
        return LabelledRows(torch.from_numpy(x), torch.from_numpy(y), tuple((name, i) for i in range(n)))

    table = probe_table(*(channel(4000, name) for name in "abc"), probes=SOME[:1])
    assert v_information(table, "logistic").information.value == pytest.approx(0.531, abs=0.03)


def test_errors_name_what_is_wrong(linear):
    fit, select, test = linear[0]
    with pytest.raises(OptionError, match="share groups"):
        probe_table(fit, select, select)
    with pytest.raises(OptionError, match="different names"):
        probe_table(fit, select, test, probes=(LogisticProbe(), LogisticProbe()))
    with pytest.raises(UnknownNameError, match="logistic"):
        linear[1]["logistics"]
    with pytest.raises(OptionError, match="quadratic"):
        linear[1].best(("quadratic",))
    with pytest.raises(EstimateError, match="at least 5"):
        probe_table(fit, select, test.take([0, 1, 80, 81]), probes=SOME[:1])


def test_permuted_labels_respect_groups():
    generator = np.random.default_rng(0)
    codes = np.repeat(np.arange(30), 4)
    pure = (np.arange(30) % 2)[codes]
    drawn = permuted_labels(pure, codes, generator=generator, count=50)
    assert (drawn.reshape(50, 30, 4).std(axis=2) == 0).all()
    assert (drawn.mean(axis=1) == 0.5).all()
    assert not (drawn == pure).all(axis=1).any()
    pairs = np.tile([0, 1, 1, 0], 30)
    drawn = permuted_labels(pairs, codes, generator=generator, count=50)
    kept = (drawn == pairs).reshape(50, 30, 4)
    assert (kept.all(axis=2) | ~kept.any(axis=2)).all()
    assert 0.4 < kept.mean() < 0.6
    uneven = np.tile([0, 1, 1, 1], 30)
    drawn = permuted_labels(uneven, codes, generator=generator, count=50)
    assert (drawn.reshape(50, 30, 4).sum(axis=2) == 3).all()
    assert not (drawn == uneven).all(axis=1).any()


def test_the_p_value_is_exact_where_it_can_be_counted():
    # Six groups of one label: the true labelling and its 19 rivals; scores rank the positives on top.
    y, codes = np.array([0, 0, 0, 1, 1, 1]), np.arange(6)
    p = auroc_p_value(np.arange(6.0)[None], y, codes, seed=0, count=4999)
    assert p == pytest.approx(1 / 20, abs=0.01)
    assert auroc_p_value(-np.arange(6.0)[None], y, codes, seed=0) == 1


def test_the_least_p_value_is_one_over_the_labellings():
    y, codes = np.array([0, 0, 0, 1, 1, 1]), np.arange(6)
    assert least_p_value(y, codes) == pytest.approx(1 / 20)
    assert least_p_value(np.tile([0, 1], 7), np.repeat(np.arange(7), 2)) == pytest.approx(2.0**-7)
    assert least_p_value(np.tile([0, 1, 1], 4), np.repeat(np.arange(4), 3)) == pytest.approx(3.0**-4)


def test_the_null_range_holds_nineteen_of_twenty_labellings():
    y, codes = np.tile([0, 1], 100), np.repeat(np.arange(100), 2)
    null = auroc_null(np.random.default_rng(0).normal(size=(1, 200)), y, codes, seed=0)
    # The area of 100 rows of either class has the standard deviation √(201/(12 · 100 · 100)) = 0.041 under the null.
    assert null.low == pytest.approx(0.5 - 1.96 * 0.041, abs=0.012)
    assert null.high == pytest.approx(0.5 + 1.96 * 0.041, abs=0.012)


def test_a_mean_of_equal_clusters_has_the_textbook_interval():
    x = np.random.default_rng(0).normal(size=(1, 40))
    x = np.concatenate([x, -x], axis=1)  # no skewness, so that both intervals agree
    found = mean_interval(x, np.arange(80), level=0.95)
    expected = stats.t.interval(0.95, 79, x.mean(), stats.sem(x[0]))
    assert (found.low, found.high) == pytest.approx(expected)
    by_pairs = mean_interval(np.repeat(x, 2, axis=1), np.repeat(np.arange(80), 2), level=0.95)
    assert (by_pairs.low, by_pairs.high) == pytest.approx(expected)


def test_a_share_of_single_rows_has_wilsons_interval():
    hits = np.repeat([1.0, 0.0], [45, 15])[None]
    found = share_interval(hits, np.arange(60), level=0.95)
    expected = stats.binomtest(45, 60).proportion_ci(0.95, "wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.006)
    perfect = share_interval(np.ones((1, 60)), np.repeat(np.arange(12), 5), level=0.95)
    assert perfect.high == 1
    assert 0.6 < perfect.low < 0.8  # a dozen clusters, not sixty rows


def test_clusters_widen_and_disagreeing_seeds_widen():
    generator = np.random.default_rng(0)
    of_cluster = np.repeat(generator.normal(size=12), 5)[None]
    noise = generator.normal(size=(3, 60)) * 0.1
    codes = np.repeat(np.arange(12), 5)

    def width(values, by):
        found = mean_interval(values, by, level=0.95)
        return found.high - found.low

    assert width(of_cluster, codes) > 1.8 * width(of_cluster, np.arange(60))
    apart = of_cluster + noise + np.array([[-3.0], [0.0], [3.0]])
    assert width(apart, codes) > 2 * width(of_cluster + noise, codes)


def test_seeds_that_err_on_other_rows_are_no_second_source_of_error():
    """Three seeds of one mean, each with noise of its own: the interval is that of the mean of three."""
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(100):
        values = generator.normal(size=(3, 60))
        ours = mean_interval(values, np.arange(60), level=0.95)
        averaged = mean_interval(values.mean(axis=0)[None], np.arange(60), level=0.95)
        ratios.append((ours.high - ours.low) / (averaged.high - averaged.low))
    assert np.median(ratios) < 1.05  # 1.2 if what rows do to seeds were counted twice


def test_areas_are_counted_by_hand():
    scores = np.array([[0.1, 0.4, 0.4, 0.3, 0.4, 0.9, 0.8, 0.2]])
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    found = auroc_interval(scores, y, np.arange(8), level=0.95)
    assert found.value == pytest.approx(roc_auc_score(y, scores[0]))
    assert found.low < found.value < found.high < 1
    assert auroc_interval(scores, 1 - y, np.arange(8), level=0.95).low == pytest.approx(1 - found.high)
    with pytest.raises(EstimateError, match="both classes"):
        auroc_interval(scores, y * 0, np.arange(8), level=0.95)


# Calibration, reduced; benchmarks/calibrate_probes.py has the whole.

SETS = 400


def simulated(seed: int, clusters: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds of rows whose clusters share an offset; a cluster is of one label."""
    generator = np.random.default_rng(seed)
    codes = np.repeat(np.arange(clusters), size)
    y = codes % 2
    signal = 2.4 * (2 * y - 1) + 1.2 * generator.normal(size=clusters)[codes] + 1.2 * generator.normal(size=len(y))
    return signal[None], y, codes


LARGE = simulated(10**6, 60_000, 5)
TRUTH = {
    "auroc": float(roc_auc_score(LARGE[1], LARGE[0][0])),
    "accuracy": float(((LARGE[0][0] > 0) == LARGE[1]).mean()),
    "nll": float(bits(LARGE[0], LARGE[1]).mean()),
}


@pytest.mark.slow
@pytest.mark.parametrize(("clusters", "size"), [(60, 1), (12, 5), (40, 5)])
def test_intervals_of_scores_cover(clusters, size):
    held = dict.fromkeys(TRUTH, 0)
    for seed in range(SETS):
        scores = Scores.of(*simulated(seed, clusters, size), level=0.95)
        for metric, true in TRUTH.items():
            held[metric] += not getattr(scores, metric).excludes(true)
    # 400 sets tell 0.95 from 0.92 and 0.98 no better than by ±0.02.
    assert all(0.905 < h / SETS < 0.99 for h in held.values()), held


@pytest.mark.slow
def test_the_widened_bootstrap_covers_skewed_losses_less_often():
    """With twelve groups: 0.91 of 200 sets; without the widening fewer than 0.9."""
    held = 0
    for seed in range(200):
        log_odds, y, codes = simulated(seed, 12, 5)
        loss = bits(log_odds, y)[0]
        found = bootstrap(lambda w, x=loss: (w @ x) / w.sum(axis=-1), [codes.tolist()], seed=seed, n_resamples=499)
        held += not found.excludes(TRUTH["nll"])
    assert 0.86 < held / 200 < 0.95


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [False, True])
def test_p_values_of_nothing_are_uniform(pairs):
    rejected, sets = 0, 500
    for seed in range(sets):
        fit, select, test = (rows("null", 30, 3 * seed + k, pairs=pairs) for k in range(3))
        log_odds = LogisticProbe().fit(fit, select, seed=0).log_odds(test.x)[None]
        rejected += auroc_p_value(log_odds, test.labels(), codes_of(test.groups), seed=seed, count=199) <= 0.05
    assert 0.02 < rejected / sets < 0.08


@pytest.mark.slow
def test_a_kernel_probe_of_pairs_is_scored_by_pairs():
    table = probe_table(*splits("xor2", 100, pairs=True), probes=(LogisticProbe(), KernelProbe()))
    assert table["kernel"].scores.accuracy.n_clusters == 100
    assert table["kernel"].scores.accuracy.low > 0.9


def test_one_row_that_errs_does_not_make_the_interval_of_an_auroc_near_one_reach_below_a_half():
    """By the logit alone it does: 39 of 40 rows of ten groups are told apart, and one stands between the classes."""
    y = np.tile([0, 1], 20)
    codes = np.arange(40) // 4
    scores = np.where(y == 1, 2.0, -2.0) + 0.01 * np.arange(40)
    scores[1] = -1.63
    found = auroc_interval(np.stack([scores, scores + 1, scores + 2]), y, codes, level=0.95)
    assert 0.98 < found.value < 1.0
    assert 0.6 < found.low < 0.8
