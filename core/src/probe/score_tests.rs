use proptest::prelude::*;

use super::*;
use crate::probe::settings::{Alpha, Method};
use crate::probe::{difference, linear};

/// Deterministic noise in (-1, 1).
fn noise(i: usize) -> f64 {
    ((i as f64 * 12.9898).sin() * 43758.5453).fract()
}

fn features(n: usize, width: usize) -> Features {
    Features::new(width, (0..n * width).map(|i| noise(i + 1) as f32).collect()).unwrap()
}

fn linear(features: &Features, error: f64) -> Vec<Option<f64>> {
    let value = |i: usize| {
        let terms = features.row(i).iter().enumerate();
        terms.map(|(j, &x)| f64::from(x) * (j as f64 - 1.5)).sum::<f64>() + 40.0
    };
    (0..features.n).map(|i| Some(value(i) + error * noise(7000 + i))).collect()
}

fn run(features: &Features, y: &[Option<f64>], settings: &ProbeSettings) -> Result<ProbeScore> {
    probe(features, y, &cut_at(features.n * 2 / 3, features.n), settings, ValidRange::default())
}

/// The first `train` of `n` rows fit, the others are scored.
fn cut_at(train: usize, n: usize) -> Split {
    Split { train: (0..train).collect(), test: (train..n).collect(), ..Split::default() }
}

fn ridge(alpha: Alpha) -> ProbeSettings {
    ProbeSettings { method: Method::Ridge, alpha, ..Default::default() }
}

#[test]
fn a_linear_relation_is_found_exactly() {
    let features = features(90, 4);
    for settings in [ProbeSettings::default(), ridge(Alpha::Fixed(0.0)), ridge(Alpha::Auto)] {
        let score = run(&features, &linear(&features, 0.0), &settings).unwrap();
        assert!(score.r2.value > 1.0 - 1e-9, "{:?}", score.r2);
        assert!(score.error_label.value < 1e-4);
        assert_eq!((score.rank, &score.note), (4, &None));
    }
}

#[test]
fn labels_beyond_single_precision_keep_their_values() {
    let features = features(90, 4);
    let y: Vec<_> = linear(&features, 0.1).iter().map(|y| y.map(|y| y * 1e44)).collect();
    let score = run(&features, &y, &ProbeSettings::default()).unwrap();
    assert!(score.pairs.iter().flatten().all(|x| (1e45..1e46).contains(x)), "{:?}", score.pairs);
    let text = serde_json::to_string(&score).unwrap();
    assert_eq!(serde_json::from_str::<ProbeScore>(&text).unwrap().pairs, score.pairs);
}

#[test]
fn more_features_than_objects_is_said_and_survived() {
    let features = features(90, 200);
    let y = linear(&features, 0.1);
    let score = run(&features, &y, &ProbeSettings::default()).unwrap();
    assert!(score.note.unwrap().contains("of the many exact fits"));
    assert!(score.rank < 60 && score.r2.value.is_finite());
    let ridge = run(&features, &y, &ridge(Alpha::Auto)).unwrap();
    assert!(ridge.r2.value.is_finite() && ridge.chosen.unwrap() > 0.0);
}

#[test]
fn repeated_and_constant_features_change_nothing() {
    let plain = features(90, 3);
    let y = linear(&plain, 0.5);
    let doubled: Vec<f32> =
        (0..90).flat_map(|i| [plain.row(i), &[7.25, plain.row(i)[0]]].concat()).collect();
    let doubled = Features::new(5, doubled).unwrap();
    let a = run(&plain, &y, &ProbeSettings::default()).unwrap();
    let b = run(&doubled, &y, &ProbeSettings::default()).unwrap();
    assert!((a.r2.value - b.r2.value).abs() < 1e-9);
    assert_eq!((b.rank, b.note.unwrap().contains("3 of 5")), (3, true));
}

#[test]
fn noise_on_its_own_scores_nothing() {
    let features = features(600, 4);
    let y: Vec<_> = (0..600).map(|i| Some(noise(90_000 + 3 * i))).collect();
    let score = run(&features, &y, &ProbeSettings::default()).unwrap();
    assert!(score.r2.value < 0.05 && score.r2.low.unwrap() < 0.0, "{:?}", score.r2);
}

#[test]
fn unknown_labels_are_left_out_and_bad_features_refused() {
    let mut features = features(90, 4);
    let clean = linear(&features, 0.3);
    let mut y = clean.clone();
    y[0] = None;
    y[1] = Some(f64::NAN);
    y[89] = Some(f64::INFINITY);
    let score = run(&features, &y, &ProbeSettings::default()).unwrap();
    assert_eq!(score.n_unknown, 3);
    assert_eq!(score.n_train + score.n_test + score.n_cut, 87);
    features.data[40] = f32::NAN;
    assert!(run(&features, &y, &ProbeSettings::default()).is_err());
    features.data[40] = 0.0;
    *features.data.last_mut().unwrap() = f32::INFINITY;
    assert!(run(&features, &clean, &ProbeSettings::default()).is_err());
    assert!(run(&features, &y[1..], &ProbeSettings::default()).is_err());
}

#[test]
fn differences_are_paired() {
    let features = features(300, 4);
    let y = linear(&features, 0.8);
    let settings = ProbeSettings::default();
    let model = run(&features, &y, &settings).unwrap();
    let same = difference(&model, &model, &settings).unwrap();
    assert_eq!((same.r2.value, same.r2.low, same.r2.high), (0.0, Some(0.0), Some(0.0)));
    let part: Vec<f32> = (0..300).flat_map(|i| features.row(i)[..3].to_vec()).collect();
    let baseline = run(&Features::new(3, part).unwrap(), &y, &settings).unwrap();
    let better = difference(&model, &baseline, &settings).unwrap();
    assert!(better.r2.above_zero() && better.error_label.below_zero(), "{better:?}");
    let mut other = baseline.clone();
    other.held_out.rows.pop();
    assert!(difference(&model, &other, &settings).is_err());
}

#[test]
fn folds_are_predicted_by_the_others_and_scored_together() {
    let features = features(60, 3);
    let y = linear(&features, 0.6);
    let keys: Vec<String> = (0..60).map(|i| format!("o{i}")).collect();
    let held_out = Split { test: (0..60).collect(), ..Split::default() };
    let split = held_out.clone().folded(&keys, 60, 0);
    let settings = ProbeSettings { cut: false, ..ridge(Alpha::Fixed(2.0)) };
    let score = probe(&features, &y, &split, &settings, ValidRange::default()).unwrap();
    assert_eq!((score.n_train, score.n_test), (59, 60));
    // Leaving one out by hand gives the same prediction.
    let without: Vec<usize> = (0..60).filter(|&row| row != 7).collect();
    let known: Vec<f64> = without.iter().map(|&row| y[row].unwrap()).collect();
    let fit = linear::fit(&features, &without, &known, Method::Ridge, Alpha::Fixed(2.0)).unwrap();
    let expected = fit.predict(&features, &[7])[0];
    let got = score.held_out.predicted[7];
    assert!((got - expected).abs() < 1e-9 * expected.abs(), "{got} {expected}");
    // Nothing tells a label that is noise, however few objects there are.
    let y: Vec<_> = keys.iter().map(|key| Some(crate::data::unit_hash(key, 5))).collect();
    let score = probe(&features, &y, &split, &settings, ValidRange::default()).unwrap();
    assert!(score.r2.value < 0.1, "{:?}", score.r2);
    let whole = probe(&features, &y, &held_out, &settings, ValidRange::default());
    assert!(whole.err().unwrap().to_string().contains("to train on"));
}

#[derive(serde::Deserialize)]
struct Golden {
    width: usize,
    features: Vec<f32>,
    labels: Vec<f64>,
    train: usize,
    median: f64,
    iqr: f64,
    cut: usize,
    alpha: f64,
    ols: GoldenScore,
    ridge_10: GoldenScore,
    ridge_auto: GoldenScore,
    wide_first: f64,
}

#[derive(serde::Deserialize)]
struct GoldenScore {
    r2: f64,
    error: f64,
    first: f64,
}

#[test]
fn scikit_learn_gets_the_same_numbers() {
    let golden: Golden = serde_json::from_str(include_str!("testdata/scikit_learn.json")).unwrap();
    let features = Features::new(golden.width, golden.features).unwrap();
    let y: Vec<_> = golden.labels.iter().map(|&y| Some(y)).collect();
    let split = cut_at(golden.train, features.n);
    let (train, test) = (&split.train, &split.test);
    for (settings, expected, alpha) in [
        (ProbeSettings::default(), golden.ols, None),
        (ridge(Alpha::Fixed(10.0)), golden.ridge_10, Some(10.0)),
        (ridge(Alpha::Auto), golden.ridge_auto, Some(golden.alpha)),
    ] {
        let score = probe(&features, &y, &split, &settings, ValidRange::default()).unwrap();
        let first = score.held_out.predicted[0];
        for (got, expected) in [
            (score.shift, golden.median),
            (score.scale, golden.iqr),
            (score.r2.value, expected.r2),
            (score.error.unwrap().value, expected.error),
            (first, expected.first * golden.iqr + golden.median),
            (score.chosen.unwrap_or(0.0), alpha.unwrap_or(0.0)),
        ] {
            assert!((got - expected).abs() < 1e-9 * (1.0 + expected.abs()), "{got} {expected}");
        }
        assert_eq!(score.n_cut, golden.cut);
    }
    // Fewer objects than features: the fit of least norm in standardised features.
    let wide = |i: usize| -> Vec<f32> {
        let x: Vec<f64> = features.row(i).iter().map(|&x| x.into()).collect();
        let squares = x.iter().map(|x| x * x);
        let products = x.iter().map(|v| x[0] * v);
        x.iter().copied().chain(squares).chain(products).map(|v| v as f32).collect()
    };
    let wide = Features::new(18, (0..features.n).flat_map(wide).collect()).unwrap();
    let kept: Vec<usize> = train.iter().copied().filter(|&i| golden.labels[i] < 800.0).collect();
    let z: Vec<f64> =
        kept[..12].iter().map(|&i| (golden.labels[i] - golden.median) / golden.iqr).collect();
    let fit = linear::fit(&wide, &kept[..12], &z, Method::Ols, Alpha::Auto).unwrap();
    let first = fit.predict(&wide, test)[0];
    assert!((first - golden.wide_first).abs() < 1e-7, "{first} {}", golden.wide_first);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn scores_do_not_depend_on_units(
        scale in prop_oneof![-1e3..-1e-3, 1e-3..1e3],
        shift in -1e3..1e3f64,
        alpha in prop_oneof![Just(Alpha::Auto), (0.01..100.0).prop_map(Alpha::Fixed)],
    ) {
        let features = features(60, 5);
        let y = linear(&features, 1.0);
        let moved: Vec<_> = y.iter().map(|y| y.map(|y| y * scale + shift)).collect();
        let settings = ProbeSettings { bootstrap: 20, ..ridge(alpha) };
        let (a, b) = (run(&features, &y, &settings)?, run(&features, &moved, &settings)?);
        prop_assert!((a.r2.value - b.r2.value).abs() < 1e-7);
        prop_assert!((a.error.unwrap().value - b.error.unwrap().value).abs() < 1e-7);
        let in_unit = a.error_label.value * f64::abs(scale);
        prop_assert!((in_unit - b.error_label.value).abs() < 1e-7 * (1.0 + in_unit));
    }

    #[test]
    fn least_squares_does_not_depend_on_the_units_of_features(
        scales in prop::collection::vec(0.01..100.0f32, 5),
    ) {
        let features = features(60, 5);
        let y = linear(&features, 1.0);
        let data = features.data.iter().enumerate().map(|(i, x)| x * scales[i % 5] + 1.0);
        let scaled = Features::new(5, data.collect()).unwrap();
        let settings = ProbeSettings { bootstrap: 0, ..Default::default() };
        let (a, b) = (run(&features, &y, &settings)?, run(&scaled, &y, &settings)?);
        prop_assert!((a.r2.value - b.r2.value).abs() < 1e-3);
    }

    #[test]
    fn any_column_of_labels_scores_or_says_why(
        y in prop::collection::vec(prop::option::of(prop_oneof![
            -10.0..10.0f64, Just(0.0), Just(f64::NAN), Just(1e300)
        ]), 48),
    ) {
        let features = features(48, 3);
        let settings = ProbeSettings { bootstrap: 10, ..Default::default() };
        match run(&features, &y, &settings) {
            Ok(score) => prop_assert!(score.n_train >= 10 && score.n_test >= 10),
            Err(reason) => prop_assert!(!reason.to_string().is_empty()),
        }
    }
}
