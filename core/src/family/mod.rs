//! A family: models of one recipe at several scales, on the same objects, and what their
//! losses and probes say of scale.
//!
//! [`law`] has the two laws, [`fit`] fits them to what was measured, with intervals, and says
//! before a model is trained what its loss will be. [`Family`] is `family.json`: one table of
//! what is done, and what came of it.

pub mod fit;
pub mod law;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{checksums, format, write_bytes};
use crate::cost::Energy;
use crate::error::{Error, Result};
use crate::probe::{Interval, Trend};
use fit::{ComputeFit, SizeFit};

/// The file's name in a family's folder.
pub const FAMILY: &str = "family.json";

/// `family.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Family {
    /// Name of the recipe.
    pub recipe: String,
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
    /// What was said of its loss before it was trained.
    pub predicted: Option<Prediction>,
    /// What came of it; `None` until it is trained.
    pub trained: Option<Trained>,
}

/// A loss foretold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Of the models before it: the loss with its interval.
    pub loss: Interval,
    /// Whether the loss measured later lies in the interval.
    pub right: Option<bool>,
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
        let models: Vec<fit::Model> = self
            .trained()
            .map(|(member, trained)| fit::Model { parameters: member.parameters as f64, trained })
            .collect();
        (self.compute, self.size) = (ComputeFit::of(&models, least_gain), SizeFit::of(&models));
    }
}
