//! Comparing numbers with recorded ones, and keeping count of what was compared.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::engine::{HostTensor, StateDict};

/// Said of what a case lacks.
const NOT_RECORDED: &str = "not recorded: the case lacks it, so it was not compared";

/// How far one quantity is from the recorded one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Name of the case.
    pub case: String,
    /// Name of the quantity.
    pub quantity: String,
    /// Largest difference between two numbers; NaN (null in JSON) when there is none.
    pub max_abs: f64,
    /// That difference in units of the largest recorded magnitude.
    pub max_rel: f64,
    /// What `max_rel` may be.
    pub tolerance: f64,
    /// Whether the quantity agrees.
    pub ok: bool,
    /// Why it could not be compared, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Comparison {
    /// One line of JSON, without a line break.
    pub fn to_json_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|e| format!("{{\"problem\":\"{e}\"}}"))
    }

    /// Compares the quantity `quantity` of `case`, or says why it could not be computed; the
    /// numbers may differ by `tolerance` times the largest recorded magnitude.
    pub fn new(
        case: &str,
        quantity: &str,
        ours: Result<&HostTensor, &str>,
        theirs: &HostTensor,
        tolerance: f64,
    ) -> Self {
        let mut out = Self::none(case, quantity, tolerance);
        match ours.map_err(str::to_owned).and_then(|ours| Self::between(ours, theirs)) {
            Err(problem) => out.problem = Some(problem),
            Ok((max_abs, magnitude)) => {
                out.max_abs = max_abs;
                out.max_rel = if max_abs == 0.0 { 0.0 } else { max_abs / magnitude };
                out.ok = out.max_rel <= tolerance;
            }
        }
        out
    }

    /// Says why the quantity `quantity` of `case` was not compared, which counts as a disagreement.
    pub fn not_compared(case: &str, quantity: &str, why: impl ToString) -> Self {
        Self { problem: Some(why.to_string()), ..Self::none(case, quantity, 0.0) }
    }

    /// No comparison yet.
    fn none(case: &str, quantity: &str, tolerance: f64) -> Self {
        Self {
            case: case.to_owned(),
            quantity: quantity.to_owned(),
            max_abs: f64::NAN,
            max_rel: f64::NAN,
            tolerance,
            ok: false,
            problem: None,
        }
    }

    /// Compares `ours` with `theirs`, number by number.
    fn between(ours: &HostTensor, theirs: &HostTensor) -> Result<(f64, f64), String> {
        if ours.shape != theirs.shape {
            return Err(format!("has the shape {:?}, {:?} recorded", ours.shape, theirs.shape));
        }
        if ours.data.len() != theirs.data.len() || ours.data.is_empty() {
            return Err(format!("{} numbers, {} recorded", ours.data.len(), theirs.data.len()));
        }
        let (mut max_abs, mut magnitude) = (0.0f64, 0.0f64);
        for (k, (&x, &y)) in ours.data.iter().zip(&theirs.data).enumerate() {
            if !x.is_finite() || !y.is_finite() {
                return Err(format!("number {k} is {x}, {y} recorded"));
            }
            max_abs = max_abs.max((f64::from(x) - f64::from(y)).abs());
            magnitude = magnitude.max(f64::from(y).abs());
        }
        Ok((max_abs, magnitude))
    }
}

/// Collects comparisons and knows which recorded arrays have not been looked at.
#[derive(Debug)]
pub(crate) struct Ledger<'a> {
    case: &'a str,
    recorded: &'a StateDict,
    untouched: BTreeSet<&'a str>,
    comparisons: Vec<Comparison>,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(case: &'a str, recorded: &'a StateDict) -> Self {
        let untouched = recorded.keys().map(String::as_str).collect();
        Self { case, recorded, untouched, comparisons: Vec::new() }
    }

    /// The recorded array `name`, which from now on counts as looked at: the caller
    /// compares it or uses it as an input.
    pub(crate) fn take(&mut self, name: &str) -> Option<&'a HostTensor> {
        self.untouched.remove(name);
        self.recorded.get(name)
    }

    /// Names of all recorded arrays that start with `prefix`, without it.
    pub(crate) fn under(&self, prefix: &str) -> Vec<&'a str> {
        let names = self.recorded.keys();
        names.filter_map(|name| name.strip_prefix(prefix)).collect()
    }

    /// Compares `ours` with the recorded `theirs`; the numbers may differ by `tolerance`
    /// times the largest recorded magnitude.
    pub(crate) fn compare(
        &mut self,
        quantity: &str,
        ours: &HostTensor,
        theirs: &HostTensor,
        tolerance: f64,
    ) {
        let comparison = Comparison::new(self.case, quantity, Ok(ours), theirs, tolerance);
        if comparison.problem.is_some() {
            self.untouched.remove(quantity);
        }
        self.comparisons.push(comparison);
    }

    /// Says that `quantity` could not be compared.
    pub(crate) fn problem(&mut self, quantity: &str, problem: impl ToString) {
        self.untouched.remove(quantity);
        self.comparisons.push(Comparison::not_compared(self.case, quantity, problem));
    }

    /// Checks that one of the arrays `names` is recorded; a case without what it must hold disagrees,
    /// since what is not there was not compared.
    pub(crate) fn must_have(&mut self, names: &[String]) {
        let lacks = names.iter().all(|name| !self.recorded.contains_key(name));
        if let Some(name) = names.first().filter(|_| lacks) {
            self.problem(name, NOT_RECORDED);
        }
    }

    /// As [`must_have`](Self::must_have), of an array whose name starts with `prefix`.
    pub(crate) fn must_have_under(&mut self, prefix: &str) {
        if self.under(prefix).is_empty() {
            self.problem(prefix, NOT_RECORDED);
        }
    }

    /// Whether any quantity was compared.
    pub(crate) fn compared_any(&self) -> bool {
        self.comparisons.iter().any(|c| c.problem.is_none())
    }

    /// All comparisons; a recorded array that nothing looked at is a disagreement.
    pub(crate) fn finish(mut self) -> Vec<Comparison> {
        for name in std::mem::take(&mut self.untouched) {
            self.problem(name, "not understood, so not compared");
        }
        self.comparisons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(ours: &[f32], theirs: &[f32]) -> Comparison {
        let tensor = |data: &[f32]| HostTensor { shape: vec![data.len()], data: data.to_vec() };
        let recorded = StateDict::new();
        let mut ledger = Ledger::new("case", &recorded);
        ledger.compare("x", &tensor(ours), &tensor(theirs), 1e-2);
        ledger.finish().remove(0)
    }

    #[test]
    fn differences_are_relative_to_the_largest_magnitude() {
        let near = compared(&[1.0, -100.5], &[1.0, -100.0]);
        assert!(near.ok && near.max_abs == 0.5 && near.max_rel == 0.005, "{near:?}");
        assert!(!compared(&[3.0, -100.0], &[1.0, -100.0]).ok);
        assert!(compared(&[0.0], &[0.0]).ok);
        assert!(!compared(&[1e-9], &[0.0]).ok);
    }

    #[test]
    fn what_is_not_finite_or_of_another_shape_disagrees() {
        for (ours, theirs) in [
            (&[f32::NAN][..], &[1.0][..]),
            (&[1.0], &[f32::NAN]),
            (&[f32::NAN], &[f32::NAN]),
            (&[f32::INFINITY], &[f32::INFINITY]),
            (&[1.0], &[1.0, 1.0]),
            (&[], &[]),
        ] {
            let comparison = compared(ours, theirs);
            assert!(!comparison.ok && comparison.problem.is_some(), "{comparison:?}");
            assert!(comparison.to_json_line().contains("\"max_abs\":null"));
        }
    }

    #[test]
    fn what_is_not_recorded_disagrees() {
        let one = HostTensor { shape: vec![1], data: vec![1.0] };
        let recorded = StateDict::from([("loss".to_owned(), one)]);
        let mut ledger = Ledger::new("case", &recorded);
        let loss = ledger.take("loss").expect("recorded");
        ledger.compare("loss", loss, loss, 0.0);
        ledger.must_have(&["outputs.images".to_owned(), "loss".to_owned()]);
        ledger.must_have(&["outputs.images".to_owned(), "outputs".to_owned()]);
        let comparisons = ledger.finish();
        assert_eq!(comparisons.len(), 2, "{comparisons:?}");
        assert!(!comparisons[1].ok && comparisons[1].quantity == "outputs.images");
        let mut ledger = Ledger::new("case", &recorded);
        ["lo", "embed"].iter().for_each(|prefix| ledger.must_have_under(prefix));
        let comparisons = ledger.finish();
        assert!(comparisons[0].quantity == "embed", "{comparisons:?}");
    }

    #[test]
    fn what_nothing_looked_at_disagrees() {
        let one = HostTensor { shape: vec![1], data: vec![1.0] };
        let recorded = StateDict::from([("a".to_owned(), one.clone()), ("b".to_owned(), one)]);
        let mut ledger = Ledger::new("case", &recorded);
        let a = ledger.take("a").expect("recorded");
        ledger.compare("a", a, a, 0.0);
        let comparisons = ledger.finish();
        assert_eq!(comparisons.len(), 2);
        assert!(comparisons[0].ok && !comparisons[1].ok && comparisons[1].quantity == "b");
    }
}
