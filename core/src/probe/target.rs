//! From a column of labels to the numbers a probe fits.

use super::settings::{Deviation, ProbeSettings, Split, Statistics, ValidRange};
use super::stats::{interquartile_range, median};
use crate::error::{Error, Result};

/// Fewest objects on either side for a fit or a score to mean anything.
pub(super) const FEWEST: usize = 10;

/// One label, cleaned and scaled.
pub(super) struct Target {
    /// Rows that train and rows that are held out.
    pub(super) train: Vec<usize>,
    pub(super) test: Vec<usize>,
    /// Their labels, as (y - shift) / scale.
    pub(super) y_train: Vec<f64>,
    pub(super) y_test: Vec<f64>,
    pub(super) shift: f64,
    pub(super) scale: f64,
    /// Interquartile range of the label, in its own unit; `None` where it is zero.
    pub(super) iqr: Option<f64>,
    /// Objects left out: label not known, and label cut as an outlier.
    pub(super) unknown: usize,
    pub(super) cut: usize,
}

impl Target {
    /// # Errors
    /// When too few objects have a usable label or it does not vary; the message is the
    /// reason alone, for a table that names the label.
    pub(super) fn prepare(
        y: &[Option<f64>],
        split: &Split,
        valid: ValidRange,
        settings: &ProbeSettings,
    ) -> Result<Self> {
        let known = |rows: &[usize]| -> Vec<(usize, f64)> {
            let value =
                |&row: &usize| Some((row, y.get(row).copied()?.filter(|&v| valid.knows(v))?));
            rows.iter().filter_map(value).collect()
        };
        let (mut fit, mut held) = (known(&split.train), known(&split.test));
        let unknown = split.train.len() + split.test.len() - fit.len() - held.len();
        // Cross-validated, every object is fitted on.
        let all = settings.statistics == Statistics::All || !split.folds.is_empty();
        let pool = |fit: &[(usize, f64)], held: &[(usize, f64)]| -> Vec<f64> {
            let held = if all { held } else { &[] };
            fit.iter().chain(held).map(|&(_, value)| value).collect()
        };
        let mut cut = 0;
        if settings.cut {
            let before = fit.len() + held.len();
            keep_near(settings.deviation, &pool(&fit, &held), [&mut fit, &mut held]);
            cut = before - fit.len() - held.len();
        }
        let crossed = fit.len() + least_other_folds(&held, split);
        for (what, count) in [("train on", crossed), ("be scored on", held.len())] {
            if count < FEWEST {
                return Err(Error::Failed(format!(
                    "only {count} objects with a known label to {what}; a probe needs at least \
                     {FEWEST}"
                )));
            }
        }
        let trained = if split.folds.is_empty() { &fit } else { &held };
        for (what, rows) in [("training", trained), ("held-out", &held)] {
            if rows.iter().all(|&(_, value)| value == rows[0].1) {
                return Err(Error::Failed(format!(
                    "the label is {} for every one of the {} {what} objects",
                    rows[0].1,
                    rows.len()
                )));
            }
        }
        let values = pool(&fit, &held);
        let iqr = interquartile_range(&values).filter(|&iqr| iqr > 0.0);
        let (shift, scale) = if settings.scale {
            // A range of zero cannot divide; the scores do not depend on the scale.
            (median(&values).unwrap_or(0.0), iqr.unwrap_or(1.0))
        } else {
            (0.0, 1.0)
        };
        let scaled = |rows: &[(usize, f64)]| -> (Vec<usize>, Vec<f64>) {
            rows.iter().map(|&(row, value)| (row, (value - shift) / scale)).unzip()
        };
        let ((train, y_train), (test, y_test)) = (scaled(&fit), scaled(&held));
        Ok(Self { train, test, y_train, y_test, shift, scale, iqr, unknown, cut })
    }
}

/// Fewest held-out objects that any fold's fit takes from the other folds.
fn least_other_folds(held: &[(usize, f64)], split: &Split) -> usize {
    if split.folds.is_empty() {
        return 0;
    }
    let mut sizes = std::collections::BTreeMap::<usize, usize>::new();
    for (row, _) in held {
        *sizes.entry(split.folds[*row]).or_default() += 1;
    }
    held.len() - sizes.values().max().copied().unwrap_or(0)
}

/// Keeps |y - median| < 3 deviations of `pool`; a deviation of zero keeps everything (with that
/// of the median more than half of the labels are then equal, and the rule would keep none).
fn keep_near(deviation: Deviation, pool: &[f64], rows: [&mut Vec<(usize, f64)>; 2]) {
    let Some(middle) = median(pool) else { return };
    let limit = 3.0
        * match deviation {
            Deviation::Median => {
                let deviations: Vec<f64> =
                    pool.iter().map(|value| (value - middle).abs()).collect();
                median(&deviations).unwrap_or(0.0)
            }
            Deviation::Standard => {
                let mean = pool.iter().sum::<f64>() / pool.len() as f64;
                let squares: f64 = pool.iter().map(|value| (value - mean).powi(2)).sum();
                (squares / pool.len() as f64).sqrt()
            }
        };
    if limit > 0.0 {
        for rows in rows {
            rows.retain(|(_, value)| (value - middle).abs() < limit);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn prepare(y: &[f64], settings: &ProbeSettings, valid: ValidRange) -> Result<Target> {
        let y: Vec<_> = y.iter().map(|&v| v.is_finite().then_some(v)).collect();
        let rows: Vec<usize> = (0..y.len()).collect();
        let (train, test) = rows.split_at(y.len() / 2);
        let split = Split { train: train.into(), test: test.into(), ..Split::default() };
        Target::prepare(&y, &split, valid, settings)
    }

    #[test]
    fn outliers_unknowns_and_ranges() {
        let mut y: Vec<f64> = (0..41).map(f64::from).collect();
        y[5] = f64::NAN;
        y[6] = -99.0;
        y[30] = 1e9;
        let valid = ValidRange { min: Some(0.0), max: None };
        let target = prepare(&y, &ProbeSettings::default(), valid).unwrap();
        assert_eq!((target.unknown, target.cut), (2, 1));
        assert_eq!((target.train.len(), target.test.len()), (18, 20));
        let all: Vec<f64> = [&target.y_train[..], &target.y_test].concat();
        assert!(median(&all).unwrap().abs() < 1e-12);
        assert!((interquartile_range(&all).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(target.iqr, Some(target.scale));
        let plain = ProbeSettings { cut: false, scale: false, ..Default::default() };
        let target = prepare(&y, &plain, valid).unwrap();
        assert_eq!((target.cut, target.shift, target.scale), (0, 0.0, 1.0));
        assert_eq!(target.y_test[10], 1e9);
    }

    #[test]
    fn a_deviation_of_zero_keeps_everything() {
        let y: Vec<f64> =
            (0..60).map(|i| if i % 10 == 0 { f64::from(i + 1) } else { 0.0 }).collect();
        let target = prepare(&y, &ProbeSettings::default(), ValidRange::default()).unwrap();
        assert_eq!((target.cut, target.iqr, target.scale), (0, None, 1.0));
        assert_eq!(target.train.len() + target.test.len(), 60);
    }

    #[test]
    fn reasons_are_sentences() {
        let reason = |y: &[f64]| {
            let target = prepare(y, &ProbeSettings::default(), ValidRange::default());
            target.err().unwrap().to_string()
        };
        assert!(reason(&[1.0; 60]).contains("every one of the 30 training"));
        assert!(reason(&[f64::NAN; 60]).contains("only 0 objects"));
        assert!(reason(&[1.0, 2.0, 3.0]).contains("at least 10"));
    }

    #[test]
    fn held_out_labels_can_stay_unseen() {
        let mut y: Vec<f64> = (0..80).map(|i| f64::from(i % 40)).collect();
        let settings = ProbeSettings { statistics: Statistics::Train, ..Default::default() };
        let before = prepare(&y, &settings, ValidRange::default()).unwrap();
        for value in &mut y[40..] {
            *value += 5.0;
        }
        let after = prepare(&y, &settings, ValidRange::default()).unwrap();
        assert_eq!((before.shift, before.scale), (after.shift, after.scale));
        assert_eq!(before.y_train, after.y_train);
    }
}
