"""Each probe against what it should and should not find, and against scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from probes.labelled import rows, splits
from scipy.linalg import eigh
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier

from steerlens.errors import ActivationError, FitError, OptionError
from steerlens.probes._batched import NetworkTask, train_networks
from steerlens.probes._discriminant import FLOOR, discriminant_score, two_axes_score
from steerlens.probes._families import (
    PROBES,
    KernelProbe,
    LDAProbe,
    LogisticProbe,
    MassMeanProbe,
    MLPProbe,
    NearestNeighbours,
    Probe,
    QuadraticProbe,
    RidgeProbe,
    fit_together,
)
from steerlens.probes._linear_probes import lda_weights
from steerlens.probes._logistic import logistic_paths
from steerlens.probes._nonlinear_probes import nearest
from steerlens.probes._recalibration import bits, recalibrate
from steerlens.probes._rows import LabelledRows
from steerlens.probes._span import FitData, Problem, Span

LINEAR = [p for p in PROBES if p.function_class == "linear"]
NONLINEAR = [p for p in PROBES if p.function_class not in ("linear", "quadratic")]


def accuracy(probe: Probe, name: str, n: int = 300, **options) -> float:
    fit, select, test = splits(name, n, test=500, **options)
    return float(((probe.fit(fit, select, seed=0).log_odds(test.x) > 0) == (test.labels() == 1)).mean())


@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.name)
def test_every_probe_finds_a_linear_concept_and_nothing_in_nothing(probe):
    assert accuracy(probe, "linear") > 0.95
    assert 0.44 < accuracy(probe, "null") < 0.56


@pytest.mark.parametrize("probe", LINEAR, ids=lambda p: p.name)
def test_linear_probes_do_not_see_exclusive_or(probe):
    assert 0.43 < accuracy(probe, "xor2") < 0.57


@pytest.mark.parametrize("name", ["xor2", "onion3"])
def test_the_quadratic_probe_sees_second_moments(name):
    assert accuracy(QuadraticProbe(), name) > 0.98


@pytest.mark.parametrize("name", ["parity3", "ring6"])
def test_the_quadratic_probe_sees_no_more_than_second_moments(name):
    assert 0.43 < accuracy(QuadraticProbe(), name) < 0.57


def gaussians(spread: float, n: int, seed: int) -> LabelledRows:
    """n rows of each of two round Gaussians about 0, the second ``spread`` times as wide."""
    x = torch.randn(2 * n, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y = torch.arange(2).repeat_interleave(n)
    return LabelledRows(x * torch.where(y == 1, spread, 1.0)[:, None], y, tuple((seed, i) for i in range(2 * n)))


def exclusive_or(n: int, seed: int) -> LabelledRows:
    """n rows of each class; the signs of the first two of 16 coordinates agree in one and differ in the other."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2 * n, 16, generator=generator, dtype=torch.float64)
    y = torch.arange(2).repeat_interleave(n)
    sign = torch.randint(2, (2 * n,), generator=generator) * 6.0 - 3.0
    x[:, 0] += sign
    x[:, 1] += sign * torch.where(y == 1, 1.0, -1.0)
    return LabelledRows(x, y, tuple((seed, i) for i in range(2 * n)))


def test_sixty_pairs_are_enough_to_see_that_one_class_is_wider():
    many = gaussians(1.5, 20000, 99)
    oracle = QuadraticDiscriminantAnalysis().fit(many.features(), many.labels())
    taken, ideal = [], []
    for seed in range(3):
        fit, select, test = (gaussians(1.5, n, 10 * seed + i) for i, n in enumerate((60, 30, 500)))
        log_odds = QuadraticProbe().fit(fit, select, seed=0).log_odds(test.x)
        taken.append(bits(log_odds, test.labels()).mean())
        ideal.append(bits(oracle.decision_function(test.features()), test.labels()).mean())
    # Products alone, 136 of them, take some 0.3 bits more than the true law does.
    assert np.mean(taken) < np.mean(ideal) + 0.2


@pytest.mark.parametrize("roundness", [1.0, 0.1])
def test_the_discriminant_is_the_log_ratio_of_two_shrunk_gaussians(roundness):
    fit, _, test = splits("gauss2", 40)
    data = FitData.of(fit, fit)
    y, u = fit.labels(), data.fit[:, :5] / data.fit[:, :5].std(axis=0)
    own = [np.cov(u[y == k].T, bias=True) for k in (0, 1)]
    laws = []
    for k in (0, 1):
        cov = 0.7 * own[k] + 0.3 * (own[0] + own[1]) / 2
        cov = (1 - roundness) * cov + (roundness * np.trace(cov) / 5 + FLOOR) * np.eye(5)
        laws.append(multivariate_normal(u[y == k].mean(axis=0), cov))
    z = data.span.coordinates(test.features())
    v = z[:, :5] / data.fit[:, :5].std(axis=0)
    expected = laws[1].logpdf(v) - laws[0].logpdf(v)
    np.testing.assert_allclose(discriminant_score(data.fit, y, 5, roundness)(z), expected, rtol=1e-9, atol=1e-9)


def test_sixty_pairs_are_enough_for_exclusive_or_in_two_of_sixteen_axes():
    taken = []
    for seed in range(3):
        fit, select, test = (exclusive_or(n, 10 * seed + i) for i, n in enumerate((60, 30, 500)))
        log_odds = QuadraticProbe().fit(fit, select, seed=0).log_odds(test.x)
        taken.append(bits(log_odds, test.labels()).mean())
    # Without the two axes 0.6.
    assert np.mean(taken) < 0.35


def test_the_two_axes_are_those_of_the_generalised_eigenproblem():
    fit, _, test = splits("gauss2", 40)
    data = FitData.of(fit, fit)
    y, scale = fit.labels(), data.fit[:, :5].std(axis=0)
    u = data.fit[:, :5] / scale
    absent, present = (np.cov(u[y == k].T, bias=True) for k in (0, 1))
    pooled = (absent + present) / 2
    pooled = 0.9 * pooled + (0.1 * np.trace(pooled) / 5 + FLOOR) * np.eye(5)
    values, axes = eigh(present - absent, pooled)
    own = np.argsort(-np.abs(values))[:2]
    laws = []
    for k, cov in enumerate((absent, present)):
        shared = (axes.T @ ((absent + present) / 2) @ axes).diagonal()
        variances = shared.copy()
        variances[own] = 0.9 * (axes.T @ cov @ axes).diagonal()[own] + 0.1 * shared[own]
        back = np.linalg.inv(axes)
        laws.append(multivariate_normal(u[y == k].mean(axis=0), back.T @ np.diag(variances + FLOOR) @ back))
    z = data.span.coordinates(test.features())
    expected = laws[1].logpdf(z[:, :5] / scale) - laws[0].logpdf(z[:, :5] / scale)
    np.testing.assert_allclose(two_axes_score(data.fit, y, 5)(z), expected, rtol=1e-9, atol=1e-9)


def test_the_quadratic_probe_s_first_candidates_are_the_logistic_probe_s():
    fit, select, _ = splits("linear", 40)
    data, problems = FitData.of(fit, select), [Problem(fit.labels(), select.labels(), s) for s in (0, 1)]
    problems[1] = replace(problems[1], y=1 - problems[1].y)
    for linear, quadratic in zip(
        LogisticProbe().candidates(data, problems), QuadraticProbe((2, 4)).candidates(data, problems), strict=True
    ):
        for a, b in zip(linear, quadratic, strict=False):
            np.testing.assert_array_equal(a.select_scores, b.select_scores)
            assert b.chosen == f"linear, {a.chosen}"
        others = {c.chosen.split(", ")[0] for c in quadratic} - {"linear"}
        ranked = {f"{of}rank {r}" for of in ("", "discriminant of ", "two axes of ") for r in (2, 4)}
        assert others == {"|z|²"} | ranked
        for c in quadratic:
            np.testing.assert_allclose(c.score(data.select), c.select_scores, atol=1e-9)


def test_classes_that_are_points_have_a_discriminant():
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64).repeat_interleave(6, dim=0)
    y = torch.arange(2).repeat_interleave(6)
    data = FitData.of(*(LabelledRows(x, y, tuple((s, i) for i in range(12))) for s in (0, 1)))
    labels, rank = y.numpy(), data.span.rank
    for scorer in (discriminant_score(data.fit, labels, rank, 0.1), two_axes_score(data.fit, labels, rank)):
        score = scorer(data.fit)
        assert np.isfinite(score).all()
        assert ((score > 0) == (labels == 1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("probe", NONLINEAR, ids=lambda p: p.name)
@pytest.mark.parametrize("name", ["xor2", "onion3", "parity3", "ring6"])
def test_nonlinear_probes_see_everything(probe, name):
    assert accuracy(probe, name, n=600) > 0.97


@pytest.mark.parametrize("probe", [MLPProbe(16), MLPProbe(256), LogisticProbe(), KernelProbe()], ids=lambda p: p.name)
def test_a_linear_concept_among_many_dimensions_is_found_by_all(probe):
    # With one second moment for each coordinate (Adam's own) networks get 0.80 here.
    assert accuracy(probe, "linear", n=100, width=400) > 0.95


@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.name)
def test_log_odds_are_calibrated(probe):
    fit, select, test = splits("gauss2", 400, test=1500)
    log_odds = probe.fit(fit, select, seed=0).log_odds(test.x)
    refit = LogisticRegression(C=1e6).fit(log_odds[:, None], test.labels())
    better = bits(refit.decision_function(log_odds[:, None]), test.labels()).mean()
    # Slope and intercept fitted to the test rows themselves save next to nothing.
    assert bits(log_odds, test.labels()).mean() - better < 0.03


def test_equal_seeds_give_equal_probes_and_company_does_not_matter():
    fit, select, test = splits("gauss2", 60)
    data = FitData.of(fit, select)
    problems = [Problem(fit.labels(), select.labels(), s) for s in (0, 1)]
    together = fit_together(PROBES, data, problems)
    for probe, found in zip(PROBES, together, strict=True):
        alone = probe.fit(fit, select, seed=1).log_odds(test.x)
        # float32 sums in another order, over some hundred steps
        np.testing.assert_allclose(alone, found[1].log_odds(test.x), atol=0.02)
        assert probe.seeded or found[0] is found[1]
    a, b = (of.log_odds(test.x) for of in together[-1])
    assert np.abs(a - b).max() > 0.01


def test_the_global_generator_is_left_alone():
    fit, select, _ = splits("linear", 40)
    torch.manual_seed(0)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    MLPProbe(16).fit(fit, select, seed=0)
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002


def test_units_and_rotations_change_nothing():
    fit, select, test = splits("gauss2", 80)
    Q = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q

    def moved(r: LabelledRows, by: torch.Tensor) -> LabelledRows:
        return LabelledRows(r.x @ by + 7, r.y, r.groups)

    scales = torch.diag(torch.logspace(-1, 1, 16, dtype=torch.float64))
    for probe in (LogisticProbe(), LDAProbe(), RidgeProbe(), KernelProbe(), MLPProbe(16)):
        before = probe.fit(fit, select, seed=0).log_odds(test.x)
        after = probe.fit(moved(fit, scales), moved(select, scales), seed=0).log_odds(test.x @ scales + 7)
        np.testing.assert_allclose(before, after, atol=0.03)
    # the mean difference is the one that does not standardise: it turns with the data
    before = MassMeanProbe().fit(fit, select, seed=0).log_odds(test.x)
    after = MassMeanProbe().fit(moved(fit, Q), moved(select, Q), seed=0).log_odds(test.x @ Q + 7)
    np.testing.assert_allclose(before, after, atol=1e-6)


def test_the_mean_difference_is_the_one_of_the_activations():
    fit, select, test = splits("linear", 60)
    delta = (fit.x[fit.y == 1].mean(dim=0) - fit.x[fit.y == 0].mean(dim=0)).numpy()
    log_odds = MassMeanProbe().fit(fit, select, seed=0).log_odds(test.x)
    assert np.corrcoef(log_odds, test.features() @ delta)[0, 1] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("width", [16, 300])
def test_logistic_paths_agree_with_scikit_learn(width):
    fit = rows("linear", 60, 1, width=width)
    x, y = fit.features(), fit.labels()
    penalties = np.array([1e-3, 1e-2, 1e-1, 1.0])
    weights, intercepts = logistic_paths(x, np.stack([y, 1 - y]), penalties, tolerance=1e-7)
    for w, b, c in zip(weights[0], intercepts[0], penalties, strict=True):
        theirs = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x, y)
        np.testing.assert_allclose(x @ w + b, theirs.decision_function(x), atol=2e-3)
    np.testing.assert_allclose(weights[0], -weights[1], atol=1e-4)


@pytest.mark.parametrize("width", [16, 200])
def test_the_discriminant_agrees_with_scikit_learn(width):
    fit = rows("heteroscedastic", 60, 1, width=width)
    span = Span.of(fit.features())
    z, y = span.coordinates(fit.features()), fit.labels()
    w, intensity = lda_weights(z, y, width)
    x = (fit.features() - span.mean) / span.scale
    about = x - np.where(y[:, None] == 1, x[y == 1].mean(axis=0), x[y == 0].mean(axis=0))
    assert intensity == pytest.approx(ledoit_wolf_shrinkage(about, assume_centered=True), rel=1e-6)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=intensity).fit(x, y)
    ours = span.axes @ w
    assert ours @ theirs.coef_[0] / np.linalg.norm(ours) / np.linalg.norm(theirs.coef_) == pytest.approx(1, abs=1e-6)


def test_ridge_has_the_direction_of_scikit_learns():
    fit, select, _ = splits("linear", 60, width=200)
    data = FitData.of(fit, select)
    for candidate in RidgeProbe().candidates(data, [Problem(fit.labels(), select.labels(), 0)])[0]:
        penalty = float(candidate.chosen.removeprefix("λ = "))
        theirs = Ridge(alpha=penalty * len(fit)).fit(data.fit, fit.labels()).predict(data.select)
        assert np.corrcoef(theirs, candidate.select_scores)[0, 1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("by_angle", [False, True])
def test_neighbours_agree_with_scikit_learn(by_angle):
    fit, _, test = splits("ring6", 60)
    theirs = KNeighborsClassifier(5, metric="cosine" if by_angle else "euclidean").fit(fit.features(), fit.labels())
    found = nearest(fit.features(), 5, by_angle)(test.features())
    assert (np.sort(found) == np.sort(theirs.kneighbors(test.features(), return_distance=False))).all()


def test_the_kernel_is_exact_up_to_its_landmarks():
    fit, select, test = splits("ring6", 100)
    exact, nystroem = KernelProbe(), KernelProbe(landmarks=199)
    a, b = (p.fit(fit, select, seed=0).log_odds(test.x) for p in (exact, nystroem))
    assert np.corrcoef(a, b)[0, 1] > 0.99


def test_a_network_learns_the_gradient_that_autograd_gives():
    fit, select, _ = splits("gauss2", 40)
    data = FitData.of(fit, select)
    from steerlens.probes._batched import _Training

    tasks = [NetworkTask(w, Problem(fit.labels(), select.labels(), s)) for w, s in ((3, 0), (5, 1))]
    state = _Training.start(data.fit.shape[1], tasks)
    z = torch.from_numpy(data.fit).float()
    leaves = [p.clone().requires_grad_() for p in state.parameters]
    hidden = torch.nn.functional.gelu(z @ leaves[0] + leaves[1]) * leaves[2]
    out = torch.stack([hidden[:, :3].sum(dim=1), hidden[:, 3:].sum(dim=1)], dim=1) + leaves[3]
    torch.testing.assert_close(out, state.outputs(z))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(out, state.y, reduction="none").mean(dim=0).sum()
    loss.backward()
    state.step(z, state.y, 1)
    # After one step the first moment is a tenth of the gradient.
    for moment, leaf in zip(state.first, leaves, strict=True):
        torch.testing.assert_close(moment * 10, leaf.grad, rtol=1e-4, atol=1e-6)


def test_networks_that_stop_early_do_not_disturb_the_others():
    fit, select, _ = splits("xor2", 100)
    nothing = np.random.default_rng(0).permutation(fit.labels())
    data = FitData.of(fit, select)
    # The first stops first: the second and third then become the first and second.
    early = NetworkTask(64, Problem(nothing, select.labels(), 1))
    tasks = [NetworkTask(w, Problem(fit.labels(), select.labels(), 0)) for w in (16, 32)]
    beside = train_networks(data, [early, *tasks])
    assert beside[0].steps < min(n.steps for n in beside[1:])
    for task, network in zip(tasks, beside[1:], strict=True):
        alone = train_networks(data, [task])[0]
        assert network.steps == pytest.approx(alone.steps, abs=20)
        assert np.corrcoef(alone(data.select), network(data.select))[0, 1] > 0.999


def test_recalibration_stays_sane_with_few_rows():
    separable = np.array([[-1.0, -2.0, 1.0, 2.0]])
    slope, intercept = recalibrate(separable, np.array([0, 0, 1, 1]))
    assert 0 < slope[0] * 2 < 4
    assert intercept[0] == pytest.approx(0, abs=1e-6)
    backwards = recalibrate(-separable, np.array([0, 0, 1, 1]))
    assert 0 < backwards.slope[0] < 1e-5
    constant = recalibrate(np.ones((1, 4)), np.array([0, 1, 1, 1]))
    assert constant.slope[0] == 0
    # Platt's targets: (3 + 1)/(3 + 2) for three rows and 1/(1 + 2) for the other
    assert 1 / (1 + np.exp(-constant.intercept[0])) == pytest.approx((3 * 0.8 + 1 / 3) / 4, abs=1e-6)


def test_recalibration_finds_the_slope_that_many_rows_have():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=20_000)
    y = (generator.random(20_000) < 1 / (1 + np.exp(-(1.5 * scores - 0.5)))).astype(np.int64)
    slope, intercept = recalibrate(scores[None], y)
    assert slope[0] == pytest.approx(1.5, abs=0.06)
    assert intercept[0] == pytest.approx(-0.5, abs=0.06)


def test_errors_name_what_is_wrong():
    fit, select, _ = splits("linear", 20)
    with pytest.raises(FitError, match="one width"):
        LogisticProbe().fit(fit, rows("linear", 10, 2, width=8), seed=0)
    with pytest.raises(FitError, match="all 40 are equal"):
        LogisticProbe().fit(LabelledRows(torch.ones(40, 16).double(), fit.y, fit.groups), select, seed=0)
    with pytest.raises(FitError, match="width 16"):
        LogisticProbe().fit(fit, select, seed=0).log_odds(torch.ones(2, 8).double())
    for wrong in (
        lambda: MLPProbe(0),
        lambda: QuadraticProbe((65,)),
        lambda: KernelProbe(()),
        lambda: NearestNeighbours((0,)),
    ):
        with pytest.raises(OptionError):
            wrong()
    with pytest.raises(ActivationError, match="both classes"):
        fit.take([0, 1])
    assert fit.take([0, 39]).groups == (fit.groups[0], fit.groups[39])
    assert fit.relabelled(1 - fit.labels()).labels()[0] == 1
