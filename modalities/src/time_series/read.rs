//! Observation -> samples in order of time.

use astropt_core::observation::Observation;
use astropt_core::{Error, Result};

use super::TimeSeries;
use super::config::{Bad, Keep, OtherBands, Short, Tail};
use crate::fields::{self, beside, check_one_unit, check_unit, refuse};

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// In the unit of the file.
    pub(super) time: f64,
    pub(super) value: f64,
    /// Standard error; 0 where errors are not read.
    pub(super) error: f64,
    /// Place in `bands`; 0 where bands are not read.
    pub(super) band: usize,
}

impl TimeSeries {
    /// The usable samples of `observation` in order of time; `None` when it has none.
    pub(super) fn read(&self, observation: &Observation) -> Result<Option<Vec<Sample>>> {
        let config = &self.config;
        let name = &config.value;
        let Some(field) = fields::series(observation, name)? else { return Ok(None) };
        check_unit(observation, name, config.unit.as_deref())?;
        check_unit(observation, &config.time, config.time_unit.as_deref())?;
        let values = field.array.data.to_f64();
        let len = values.len();
        let times = beside(observation, &config.time, name, len)?.to_f64();
        let errors = match &config.error {
            None => None,
            Some(error) => {
                check_unit(observation, error, config.unit.as_deref())?;
                check_one_unit(observation, name, error)?;
                Some(beside(observation, error, name, len)?.to_f64())
            }
        };
        let flagged = match &config.quality {
            None => vec![false; len],
            Some(quality) => {
                fields::flagged(beside(observation, quality, name, len)?, config.quality_bits)
            }
        };
        let bands = self.read_bands(observation, len)?;
        let mut samples = Vec::with_capacity(len);
        let mut bad = Vec::new();
        for i in 0..len {
            let Some(band) = bands[i] else { continue };
            let error = errors.as_ref().map_or(0.0, |errors| errors[i]);
            let sound = !flagged[i]
                && times[i].is_finite()
                && (values[i] as f32).is_finite()
                && (errors.is_none() || (error > 0.0 && (error as f32).is_finite()));
            if sound {
                samples.push(Sample { time: times[i], value: values[i], error, band });
            } else {
                bad.push(i);
            }
        }
        self.check_bad(observation, &bad, len)?;
        // A stable order, so that samples of the same time stay as they are in the file.
        samples.sort_by(|a, b| a.time.total_cmp(&b.time).then(a.band.cmp(&b.band)));
        self.check_length(observation, samples)
    }

    /// Place of each sample's band in `bands`; `None` for samples that are left out.
    fn read_bands(&self, observation: &Observation, len: usize) -> Result<Vec<Option<usize>>> {
        let config = &self.config;
        let Some(name) = &config.band else { return Ok(vec![Some(0); len]) };
        let data = beside(observation, name, &config.value, len)?;
        let mut places = Vec::with_capacity(len);
        for (i, band) in fields::integers(data).iter().enumerate() {
            let place = band.and_then(|band| config.bands.iter().position(|&b| b == band));
            if place.is_none() && config.other_bands == OtherBands::Refuse {
                let found = data.to_f64()[i];
                return Err(refuse(
                    observation,
                    name,
                    format!(
                        "has the band {found} at sample {i}, which `bands` does not list; list it, \
                         or set `other_bands = \"drop\"`"
                    ),
                ));
            }
            places.push(place);
        }
        Ok(places)
    }

    fn check_bad(&self, observation: &Observation, bad: &[usize], len: usize) -> Result<()> {
        match bad.first() {
            Some(first) if self.config.bad == Bad::Refuse => Err(refuse(
                observation,
                &self.config.value,
                format!(
                    "has {} of {len} samples that cannot be used (flagged, without a positive \
                     error, or not finite), the first is sample {first}; mend them, or set \
                     `bad = \"drop\"`",
                    bad.len()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn check_length(
        &self,
        observation: &Observation,
        samples: Vec<Sample>,
    ) -> Result<Option<Vec<Sample>>> {
        let config = &self.config;
        let window = if config.tail == Tail::Drop { config.window } else { 1 };
        let least = config.min_samples.max(window);
        if samples.len() >= least {
            return Ok(Some(samples));
        }
        match config.short {
            Short::Absent => Ok(None),
            Short::Refuse => Err(Error::object(
                &observation.id,
                format!(
                    "{} usable samples in {:?}, at least {least} needed; lower `min_samples`, or \
                     set `short = \"absent\"`",
                    samples.len(),
                    config.value
                ),
            )),
        }
    }

    /// Those of the samples that become tokens.
    pub(super) fn kept(&self, samples: &[Sample]) -> Vec<Sample> {
        let config = &self.config;
        let (n, most) = (samples.len(), config.max_tokens.saturating_mul(config.window));
        let mut kept: Vec<Sample> = match config.keep {
            _ if n <= most => samples.to_vec(),
            Keep::First => samples[..most].to_vec(),
            Keep::Last => samples[n - most..].to_vec(),
            Keep::Strided => {
                let place = |i: usize| (i as u128 * n as u128 / most as u128) as usize;
                (0..most).map(|i| samples[place(i)]).collect()
            }
        };
        if config.tail == Tail::Drop {
            kept.truncate(kept.len() / config.window * config.window);
        }
        kept
    }
}
