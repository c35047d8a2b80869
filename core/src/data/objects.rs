//! Objects and their tokens: a source read through a plan's modalities, or a source that has
//! the tokens already.

use std::collections::BTreeMap;
use std::path::Path;

use super::batch::Row;
use super::met::Met;
use super::units::{Units, label_units};
use crate::error::{Error, Result};
use crate::observation::{LabelUnits, Observation};
use crate::recipe::{Modalities, Plan, lacks_data};
use crate::seam::Source;
use crate::tokens::TokenSpec;

/// A source and the modalities it is read through.
pub struct Objects {
    /// Where objects come from.
    pub source: Box<dyn Source>,
    /// What becomes tokens, by name.
    pub modalities: Modalities,
    /// What the tokens look like.
    pub specs: BTreeMap<String, TokenSpec>,
    /// Units of labels, as the data or the modalities state them.
    pub label_units: LabelUnits,
    /// The units of all that was read.
    units: Units,
    /// Which modalities they had.
    pub(super) met: Met,
}

impl Objects {
    /// Opens the source of `plan`; relative paths start at `root`.
    ///
    /// # Errors
    /// When the plan names no data, the source cannot be opened, it holds tokens that the plan's
    /// modalities would not have made, or labels in another unit than these state.
    pub fn open(plan: &Plan, root: &Path) -> Result<Self> {
        if lacks_data(plan) {
            return Err(Error::Misuse(
                "there are no data yet: the model was imported without any; give --data PATH, as in \
                 `astropt pretrain --resume --out RUN --data PATH`, which the run keeps, or `astropt \
                 embed RUN --data PATH --out DIR`"
                    .into(),
            ));
        }
        let source = plan.source.open(root)?;
        if let Some(made) = source.tokenised() {
            made.check(&plan.modalities)?;
        }
        let modalities = plan.build_modalities()?;
        let specs = modalities.iter().map(|(name, m)| (name.clone(), m.spec())).collect();
        let label_units = label_units(source.as_ref(), &modalities)?;
        let met = Met::none_of(&modalities);
        Ok(Self { source, modalities, specs, label_units, units: Units::default(), met })
    }

    /// Object `index`: itself, without its arrays where the source has tokens already, and
    /// its tokens by modality in alphabetical order, at least of one.
    ///
    /// # Errors
    /// When the object cannot be used, its file cannot be had, or a field of it is in another unit
    /// than in an object before (the latter two [end the work](Error::ends_work)).
    pub fn read(&self, index: usize) -> Result<(Observation, Row)> {
        let (observation, row) = match self.source.tokenised() {
            Some(made) => {
                let row = made.tokens(index, &|name| self.specs.contains_key(name))?;
                let (id, labels) = (self.source.id(index), self.source.labels(index));
                (Observation { id, labels, ..Observation::default() }, row)
            }
            None => {
                let observation = self.source.read(index)?;
                let blame = |error| match error {
                    Error::Failed(message) => Error::object(&observation.id, message),
                    error => error,
                };
                let row = self.tokenise(&observation).map_err(blame)?;
                // What a modality has refused is not used, whatever its unit.
                self.units.check(&observation)?;
                (observation, row)
            }
        };
        self.met.note(&observation, &row);
        if row.is_empty() {
            return Err(Error::object(&observation.id, "it has none of the recipe's modalities"));
        }
        Ok((observation, row))
    }

    /// The tokens that the modalities make of `observation`, in alphabetical order.
    pub(super) fn tokenise(&self, observation: &Observation) -> Result<Row> {
        let mut row = Row::new();
        for (name, modality) in &self.modalities {
            if let Some(mut tokens) = modality.tokenise(observation)? {
                let blame =
                    |e: Error| Error::object(&observation.id, format!("modality {name}: {e}"));
                let spec = self.specs.get(name);
                spec.map_or(Ok(()), |spec| tokens.check(spec)).map_err(blame)?;
                // A batch takes parts of them, as inputs and as targets.
                tokens.values.share();
                row.push((name.clone(), tokens));
            }
        }
        Ok(row)
    }

    /// The plain features of object `index`, which has been read as `observation`, in
    /// `modality`; see [`Modality::raw_features`](crate::seam::Modality::raw_features).
    ///
    /// # Errors
    /// When the object cannot be used.
    pub fn raw_features(
        &self,
        index: usize,
        observation: &Observation,
        modality: &str,
    ) -> Result<Option<Vec<f32>>> {
        if let Some(made) = self.source.tokenised() {
            return made.raw_features(index, modality);
        }
        let modality = self.modalities.get(modality);
        modality.map_or(Ok(None), |modality| modality.raw_features(observation))
    }
}
