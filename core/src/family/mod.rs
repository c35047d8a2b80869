//! A family: models of one recipe at several scales, on the same objects, and what their
//! losses and probes say of scale.
//!
//! [`law`] has the two laws, [`fit`] fits them to what was measured, with intervals, and says
//! before a model is trained what its loss will be. [`Family`] is `family.json`: one table of
//! what is done, and what came of it.

pub mod fit;
pub mod law;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::checkpoint::{checksums, format, write_bytes};
use crate::cost::{Energy, Forecast};
use crate::error::{Error, Result};
use crate::probe::{Interval, Trend};
use fit::{ComputeFit, FEWEST_GROUPS, SizeFit};

/// The file's name in a family's folder.
pub const FAMILY: &str = "family.json";
/// Losses of predicting zero on the same objects are this near to each other, relatively: they may
/// be added up on several devices.
const SAME_OBJECTS: f64 = 1e-5;
/// Losses of one law are this near to each other, however it was written down in between.
const SAME_LOSS: f64 = 1e-9;

/// `family.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Family {
    /// Name of the recipe.
    pub recipe: String,
    /// What it was begun with; `None` in families of earlier versions.
    #[serde(default)]
    pub settings: Option<Settings>,
    /// One a scale, the smallest first; each has the folder of its name beside this file.
    pub members: Vec<Member>,
    /// Loss against compute.
    #[serde(default, deserialize_with = "unless_undefined")]
    pub compute: Option<ComputeFit>,
    /// Loss against parameters and tokens.
    #[serde(default, deserialize_with = "unless_undefined")]
    pub size: Option<SizeFit>,
    /// Probes against compute, by label.
    #[serde(default, deserialize_with = "unless_undefined")]
    pub trends: Vec<Trend>,
}

/// Reads what is computed from the models; nothing where a number of it is missing, for which
/// earlier versions took one that was not finite: it is computed again.
fn unless_undefined<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    from: D,
) -> std::result::Result<T, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    let undefined = holds_null(&value);
    match serde_json::from_value(value) {
        Err(_) if undefined => Ok(T::default()),
        read => read.map_err(serde::de::Error::custom),
    }
}

/// Whether anything in `value` is null.
fn holds_null(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Array(of) => of.iter().any(holds_null),
        serde_json::Value::Object(of) => of.values().any(holds_null),
        _ => false,
    }
}

/// One model of a family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its scale.
    pub scale: String,
    /// Parameters, position tables not counted.
    pub parameters: usize,
    /// Steps its plan has.
    pub steps: u64,
    /// Its whole recipe, as TOML; once it has begun, that in its folder counts.
    #[serde(default)]
    pub recipe: String,
    /// What its training was to cost.
    #[serde(default)]
    pub forecast: Option<Forecast>,
    /// What was said of its loss before it was trained.
    pub predicted: Option<Prediction>,
    /// What came of it; `None` until it has gone through all stages.
    pub trained: Option<Trained>,
    /// How far it has come, where it has begun and not gone through all stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<String>,
}

/// A loss foretold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Of the models before it: the loss on the objects that they were evaluated on, with its
    /// interval (see [`ComputeFit`]).
    pub loss: Interval,
    /// The compute it is said of, in FLOP; 0 in families of earlier versions.
    #[serde(default)]
    pub flops: f64,
    /// The loss measured later minus the law, resampled together.
    #[serde(default)]
    pub above: Option<Interval>,
    /// Whether the interval of `above` holds zero.
    pub right: Option<bool>,
}

/// What a family was begun with: models that are still to begin are trained so, whatever the
/// command line that goes on with it leaves out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The recipe as it was named: one of the program's, or a file.
    pub recipe: String,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--set`, in order.
    pub set: Vec<String>,
    /// `--stop-at-saturation`.
    #[serde(default)]
    pub stop_at_saturation: bool,
}

/// A trained model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Tokens read in training.
    pub tokens: u64,
    /// 6 N D, in FLOP.
    pub flops: f64,
    /// Loss of the last evaluation.
    pub loss: f64,
    /// Loss of predicting zero everywhere, on the same objects.
    pub zero_loss: f64,
    /// How long training took, in seconds.
    pub seconds: f64,
    /// What it took at the meter.
    pub energy: Option<Energy>,
    /// The evaluations: tokens read and loss.
    pub curve: Vec<(u64, f64)>,
    /// Losses of the last evaluation by groups of objects, and how many each has.
    pub batches: Vec<(f64, u64)>,
}

impl Trained {
    /// Whether the last evaluation was of as many objects, and of the same ones: predicting zero has
    /// the same loss on them.
    pub(crate) fn evaluated_as(&self, other: &Self) -> bool {
        let near = (self.zero_loss - other.zero_loss).abs() <= SAME_OBJECTS * self.zero_loss.abs();
        self.objects() == other.objects() && near
    }

    /// How many objects the last evaluation was of.
    fn objects(&self) -> u64 {
        self.batches.iter().map(|batch| batch.1).sum()
    }

    /// The same in words.
    fn evaluated_on(&self) -> String {
        in_groups(self.objects(), self.batches.len())
    }
}

/// So many objects in so many groups, in words.
fn in_groups(objects: u64, groups: usize) -> String {
    let (many, more) = (if objects == 1 { "" } else { "s" }, if groups == 1 { "" } else { "s" });
    format!("{objects} object{many} in {groups} group{more}")
}

impl Family {
    /// Reads the family in `folder`; an empty one where there is none.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FAMILY);
        if path.exists() {
            checksums::check_listed(&path)?;
            format::read_json(&path, "a family of runs")
        } else {
            Ok(Self::default())
        }
    }

    /// Writes the family to `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FAMILY);
        let text = format::readable(&self.trends)
            .and_then(|()| format::readable(&self.compute))
            .and_then(|()| format::readable(&self.size))
            .and_then(|()| format::to_json_again(self))
            .map_err(|e| Error::file(&path, format!("cannot write the family: {e}")))?;
        checksums::rewritten(folder, &[FAMILY], || write_bytes(&path, text.as_bytes()))
    }

    /// The models that are trained.
    pub fn trained(&self) -> impl Iterator<Item = (&Member, &Trained)> {
        self.members.iter().filter_map(|member| Some((member, member.trained.as_ref()?)))
    }

    /// The trained models whose losses are of the same objects: the most that have this in common,
    /// and of as many the smaller ones.
    pub fn compared(&self) -> Vec<(&Member, &Trained)> {
        let alike = |(_, one): (&Member, &Trained)| -> Vec<(&Member, &Trained)> {
            self.trained().filter(|(_, other)| one.evaluated_as(other)).collect()
        };
        let groups = self.trained().map(alike);
        groups
            .reduce(|most, other| if other.len() > most.len() { other } else { most })
            .unwrap_or_default()
    }

    /// Which trained models have losses of other objects than the [`compared`](Self::compared)
    /// ones, in words; `None` where none has.
    pub fn apart(&self) -> Option<String> {
        let compared = self.compared();
        let (_, first) = compared.first()?;
        let others: Vec<String> = self
            .trained()
            .filter(|(_, trained)| !trained.evaluated_as(first))
            .map(|(member, trained)| format!("{} ({})", member.scale, trained.evaluated_on()))
            .collect();
        let were = if others.len() == 1 { "was" } else { "were" };
        let names: Vec<&str> = compared.iter().map(|(member, _)| member.scale.as_str()).collect();
        (!others.is_empty()).then(|| {
            format!(
                "{} {were} evaluated on other objects than {} ({}): their losses cannot be compared, \
                 and the laws are of the latter alone",
                others.join(", "),
                names.join(", "),
                first.evaluated_on()
            )
        })
    }

    /// Fits the laws to the models trained so far.
    pub fn fit(&mut self, least_gain: f64) {
        let (models, ends) = (self.models(), self.ends(None));
        (self.compute, self.size) =
            (ComputeFit::of(&models, ends, least_gain), SizeFit::of(&models));
    }

    /// Where groups of objects end in which the [`compared`](Self::compared) models were evaluated,
    /// and `also` another.
    fn ends(&self, also: Option<&Trained>) -> Vec<u64> {
        let compared = self.compared().into_iter().map(|(_, trained)| trained);
        fit::common_ends(compared.chain(also))
    }

    /// Of how many objects the compared losses are, in how many groups that resamples draw, in
    /// words.
    pub(crate) fn evaluated_on(&self) -> String {
        let ends = self.ends(None);
        in_groups(ends.last().copied().unwrap_or(0), ends.len())
    }

    /// That the groups of objects that resamples draw are too few, and what of it, in words; `None`
    /// where they are not, or nothing is compared.
    pub(crate) fn few_groups(&self) -> Option<String> {
        let few = self.compared().len() > 1 && self.ends(None).len() < FEWEST_GROUPS;
        few.then(|| {
            format!(
                "losses are of {}, and fewer than {FEWEST_GROUPS} say little of their scatter: \
                 intervals over them come out too narrow, and whether a loss was foretold rightly is \
                 left open (more train.eval_batches, or more objects held out by [split], give more)",
                self.evaluated_on()
            )
        })
    }

    fn models(&self) -> Vec<fit::Model<'_>> {
        let model = |(member, trained): (&Member, _)| {
            let parameters = member.parameters as f64;
            fit::Model { parameters, trained }
        };
        self.compared().into_iter().map(model).collect()
    }

    /// What the models trained so far, all smaller ones, say of the loss at `flops`, which is
    /// counted as in [`Trained::flops`]; `None` with fewer than two of them.
    pub fn foretell(&self, flops: f64, least_gain: f64) -> Option<Prediction> {
        let (_, last) = self.compared().pop()?;
        let fit = ComputeFit::of(&self.models(), self.ends(None), least_gain)?;
        let loss = fit.foretell(last, flops);
        Some(Prediction { loss, flops, above: None, right: None })
    }

    /// Says whether `prediction` was right of `trained`, by the models trained so far, from which
    /// it was made. Where they would not make it again, as some went on since, it stays open, and
    /// where too few groups of objects were evaluated.
    pub fn judge(&self, prediction: &mut Prediction, trained: &Trained, least_gain: f64) {
        (prediction.above, prediction.right) = (None, None);
        // Of other objects nothing was said.
        if self.compared().first().is_none_or(|(_, first)| !first.evaluated_as(trained)) {
            return;
        }
        let ends = self.ends(Some(trained));
        let groups = ends.len();
        let Some(fit) = ComputeFit::of(&self.models(), ends, least_gain) else { return };
        if (fit.law.at(prediction.flops) - prediction.loss.value).abs() > SAME_LOSS {
            return;
        }
        let above = fit.above(trained);
        let enough = groups >= FEWEST_GROUPS;
        prediction.right = enough.then(|| !above.above_zero() && !above.below_zero());
        prediction.above = Some(above);
    }

    /// Takes in what came of model `k`, and judges what was foretold of it, by the models before.
    pub fn settle(&mut self, k: usize, trained: Trained, least_gain: f64) {
        if let Some(mut said) = self.members[k].predicted.take() {
            if said.flops <= 0.0
                && let Some(again) = self.foretell(trained.flops, least_gain)
            {
                // Earlier versions took the scatter of objects for that of the prediction.
                said = again;
            }
            self.judge(&mut said, &trained, least_gain);
            self.members[k].predicted = Some(said);
        }
        self.members[k].trained = Some(trained);
    }

    /// Whether ten times the compute would lower the loss by less than is asked for already from
    /// the smallest model on.
    pub fn saturated_throughout(&self) -> bool {
        let turn = self.compute.as_ref().and_then(|fit| fit.saturation);
        let smallest = self.compared().first().map(|(_, trained)| trained.flops);
        turn.zip(smallest).is_some_and(|(turn, smallest)| turn.value <= smallest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_other_objects_are_in_no_law() {
        let trained = |flops: f64, loss: f64, zero_loss: f64, batches: usize| Trained {
            flops,
            loss,
            zero_loss,
            batches: (0..batches).map(|k| (loss + 0.001 * k as f64, 8)).collect(),
            ..Trained::default()
        };
        let models = [
            ("S", trained(1e15, 0.34, 0.4, 4)),
            ("M", trained(1e16, 0.33, 0.4 + 1e-9, 4)),
            ("L", trained(1e17, 0.2, 0.4, 1)),
            ("XL", trained(1e18, 0.1, 0.41, 4)),
        ];
        let member = |(scale, trained): (&str, Trained)| Member {
            scale: scale.into(),
            trained: Some(trained),
            ..Member::default()
        };
        let mut family = Family { members: models.map(member).into(), ..Family::default() };
        let names: Vec<&str> = family.compared().iter().map(|(m, _)| m.scale.as_str()).collect();
        assert_eq!(names, ["S", "M"]);
        let said = family.apart().expect("two are apart");
        assert!(
            said.starts_with("L (8 objects in 1 group), XL (32 objects in 4 groups) were"),
            "{said}"
        );
        family.fit(0.005);
        let law = family.compute.as_ref().expect("two models").law;
        assert!((law.at(1e16) - 0.33).abs() < 1e-9 && law.floor == 0.0, "{law:?}");
        let foretold = family.foretell(1e17, 0.005).expect("two models");
        let mut said = Prediction { right: Some(true), ..foretold };
        let other = family.members[2].trained.clone().expect("trained");
        family.judge(&mut said, &other, 0.005);
        assert!(said.right.is_none() && said.above.is_none(), "of other objects: {said:?}");
    }

    #[test]
    fn what_earlier_versions_wrote_of_undefined_gains_is_computed_again() {
        let folder = tempfile::tempdir().expect("folder");
        let family = judged([4, 4, 4], 0.01);
        family.write(folder.path()).expect("written");
        let path = folder.path().join(FAMILY);
        let text = std::fs::read_to_string(&path).expect("there");
        let trend = r#"[{"label": "class", "gains": [{"value": null, "low": null, "high": null}],
            "pearson": null, "spearman": null}]"#;
        let nulls = text.replace("\"trends\": []", &format!("\"trends\": {trend}"));
        assert_ne!(text, nulls);
        let read =
            |text: &str| format::parse_json::<Family>(&path, text.as_bytes(), "a family of runs");
        let again = read(&nulls).expect("read");
        assert!(again.trends.is_empty() && again.compute.is_some(), "{again:?}");
        assert_eq!(again.members, family.members);
        assert!(read(&text.replace("\"trends\": []", "\"trends\": 3")).is_err());
        // Nor is any of that written any more.
        let value = Interval { value: f64::NAN, low: None, high: None };
        let trends = vec![Trend {
            label: "class".into(),
            gains: vec![value],
            pearson: None,
            spearman: None,
            untrained: Vec::new(),
            fitted: 1,
            scored: 1,
        }];
        let error = Family { trends, ..family }.write(folder.path()).expect_err("NaN");
        assert!(error.to_string().contains("not finite"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), text);
    }

    /// Three models of 256 objects, in groups of `sizes`, whose losses go down alike but for `scatter`;
    /// the third is what the others foretell.
    fn judged(sizes: [usize; 3], scatter: f64) -> Family {
        let mut family = Family::default();
        for (k, size) in sizes.into_iter().enumerate() {
            let (flops, law) = (1e15 * 10f64.powi(k as i32), 0.36 * 0.97f64.powi(k as i32));
            let hash = |i: usize, k: usize| crate::data::unit_hash(&format!("{i} {k}"), 0);
            let noise = |i: usize, k: usize| scatter * (hash(i, k) - 0.5);
            let losses: Vec<f64> = (0..256).map(|i| law + noise(i, 9) + noise(i, k)).collect();
            let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
            let group = |of: &[f64]| (mean(of), of.len() as u64);
            let batches = losses.chunks(size).map(group).collect();
            let loss = mean(&losses);
            let trained = Trained { flops, loss, zero_loss: 0.4, batches, ..Trained::default() };
            let predicted = family.foretell(flops, 0.005);
            let member = Member { scale: k.to_string(), predicted, ..Member::default() };
            family.members.push(member);
            family.settle(k, trained, 0.005);
        }
        family.fit(0.005);
        family
    }

    /// The width of the interval of what lies above what was foretold, and the verdict.
    fn verdict(family: &Family) -> (f64, Option<bool>) {
        let said = family.members[2].predicted.as_ref().expect("foretold");
        let above = said.above.expect("both are on the same objects");
        (above.high.zip(above.low).map_or(0.0, |(high, low)| high - low), said.right)
    }

    #[test]
    fn micro_batches_decide_neither_intervals_nor_what_is_compared() {
        let alike = judged([4, 4, 4], 0.01);
        let (width, right) = verdict(&alike);
        assert!(width > 0.0 && right.is_some() && alike.few_groups().is_none(), "{width}");
        assert_eq!(alike.evaluated_on(), "256 objects in 64 groups");
        for sizes in [[2, 2, 2], [4, 2, 4], [2, 4, 1]] {
            let other = judged(sizes, 0.01);
            assert!(other.apart().is_none(), "the same objects: {:?}", other.apart());
            let (again, same) = verdict(&other);
            assert!((0.8..1.25).contains(&(again / width)), "{again} {width}");
            assert_eq!(right, same);
        }
        // Eight groups hardly tell how objects scatter.
        let few = judged([32, 32, 4], 0.01);
        assert_eq!(verdict(&few).1, None);
        let said = few.few_groups().expect("few");
        assert!(said.starts_with("losses are of 256 objects in 8 groups"), "{said}");
    }
}
