//! A family: models of one recipe at several scales, on the same objects, and what their
//! losses and probes say of scale.
//!
//! [`law`] has the two laws, [`fit`] fits them to what was measured, with intervals, and says
//! before a model is trained what its loss will be. [`Family`] is `family.json`: one table of
//! what is done, and what came of it.

pub mod fit;
pub mod law;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::{checksums, format, write_bytes};
use crate::cost::{Energy, Forecast};
use crate::error::{Error, Result};
use crate::probe::{Interval, Trend};
use fit::{ComputeFit, SizeFit};

/// The file's name in a family's folder.
pub const FAMILY: &str = "family.json";
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
    pub compute: Option<ComputeFit>,
    /// Loss against parameters and tokens.
    pub size: Option<SizeFit>,
    /// Probes against compute, by label.
    pub trends: Vec<Trend>,
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
    /// What came of it; `None` until it is trained.
    pub trained: Option<Trained>,
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
    /// Losses of the last evaluation by micro-batch, and how many objects each has.
    pub batches: Vec<(f64, u64)>,
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
        let text = format::to_json(self)
            .map_err(|e| Error::file(&path, format!("cannot write the family: {e}")))?;
        checksums::rewritten(folder, &[FAMILY], || write_bytes(&path, text.as_bytes()))
    }

    /// The models that are trained.
    pub fn trained(&self) -> impl Iterator<Item = (&Member, &Trained)> {
        self.members.iter().filter_map(|member| Some((member, member.trained.as_ref()?)))
    }

    /// Fits the laws to the models trained so far.
    pub fn fit(&mut self, least_gain: f64) {
        let models = self.models();
        (self.compute, self.size) = (ComputeFit::of(&models, least_gain), SizeFit::of(&models));
    }

    fn models(&self) -> Vec<fit::Model<'_>> {
        let model = |(member, trained): (&Member, _)| {
            let parameters = member.parameters as f64;
            fit::Model { parameters, trained }
        };
        self.trained().map(model).collect()
    }

    /// What the models trained so far, all smaller ones, say of the loss at `flops`, which is
    /// counted as in [`Trained::flops`]; `None` with fewer than two of them.
    pub fn foretell(&self, flops: f64, least_gain: f64) -> Option<Prediction> {
        let (_, last) = self.trained().last()?;
        let loss = ComputeFit::of(&self.models(), least_gain)?.foretell(last, flops);
        Some(Prediction { loss, flops, above: None, right: None })
    }

    /// Says whether `prediction` was right of `trained`, by the models trained so far, from which
    /// it was made. Where they would not make it again, as some went on since, it stays open.
    pub fn judge(&self, prediction: &mut Prediction, trained: &Trained, least_gain: f64) {
        (prediction.above, prediction.right) = (None, None);
        let Some(fit) = ComputeFit::of(&self.models(), least_gain) else { return };
        if (fit.law.at(prediction.flops) - prediction.loss.value).abs() > SAME_LOSS {
            return;
        }
        let above = fit.above(trained);
        prediction.right = above.low.is_some().then(|| !above.above_zero() && !above.below_zero());
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
        let smallest = self.trained().next().map(|(_, trained)| trained.flops);
        turn.zip(smallest).is_some_and(|(turn, smallest)| turn.value <= smallest)
    }
}
