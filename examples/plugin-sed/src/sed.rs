//! The modality `sed`: one token a measured band.

use astropt_core::observation::{Array, Data, Field, Observation};
use astropt_core::seam::Modality;
use astropt_core::tokens::{Positions, TokenSpec, Tokens, Values};
use astropt_core::{Error, Result};

use crate::config::{SAME_BAND, SedConfig};

/// Numbers of a token: asinh flux, and the logarithm of its error.
const WIDTH: usize = 2;
/// A micrometre in angstrom.
const MICROMETRE: f64 = 1e4;

/// The tokeniser that [`SedConfig`] builds.
#[derive(Debug)]
pub struct Sed {
    config: SedConfig,
    spec: TokenSpec,
    /// log10 of each band's wavelength in micrometres, ascending.
    places: Vec<f64>,
}

/// One measured band, in microjansky.
struct Measurement {
    band: usize,
    flux: f64,
    error: f64,
}

impl Sed {
    /// The tokeniser of a configuration that has been checked.
    pub(crate) fn new(config: SedConfig) -> Self {
        let spec = TokenSpec {
            values: Values::Continuous { width: WIDTH },
            positions: Positions::Continuous { width: 1 },
            loss_weight: config.loss_weight,
            max_tokens: config.wavelengths.len(),
        };
        let places = config.wavelengths.iter().map(|w| (w / MICROMETRE).log10()).collect();
        Self { config, spec, places }
    }

    /// The bands that were measured; `None` when the object has no photometry.
    fn measurements(&self, observation: &Observation) -> Result<Option<Vec<Measurement>>> {
        let SedConfig { flux, error, unit, .. } = &self.config;
        if !observation.fields.contains_key(flux) {
            return Ok(None);
        }
        let values = self.numbers(observation, flux)?;
        let errors = self.numbers(observation, error)?;
        let measured = |(band, (&value, &error)): (usize, (&f64, &f64))| {
            let known = value.is_finite() && error.is_finite() && error > 0.0;
            known.then(|| {
                let (flux, error) = unit.to_microjansky(value, error);
                Measurement { band, flux, error }
            })
        };
        let found: Vec<_> = values.iter().zip(&errors).enumerate().filter_map(measured).collect();
        Ok((!found.is_empty()).then_some(found))
    }

    /// The numbers of a field with one number a band, in the recipe's unit.
    fn numbers(&self, observation: &Observation, name: &str) -> Result<Vec<f64>> {
        let field = observation.field(name)?;
        let bands = self.places.len();
        let Field { array: Array { shape, data }, unit } = field;
        let refuse =
            |what: String| Err(Error::object(&observation.id, format!("field {name:?} {what}")));
        if shape[..] != [bands] || data.len() != bands {
            return refuse(format!(
                "has shape {shape:?} and {} numbers; `wavelengths` lists {bands} bands",
                data.len()
            ));
        }
        let expected = self.config.unit.name();
        match unit.as_deref() {
            Some(stated) if stated != expected => refuse(format!(
                "is in {stated:?}, not in {expected:?}; set `unit` to what the file holds"
            )),
            _ => Ok(data.to_f64().into_owned()),
        }
    }

    /// asinh of a flux, and log10 of its error propagated through asinh.
    fn token(&self, observation: &Observation, m: &Measurement) -> Result<[f32; WIDTH]> {
        let softening = self.config.softening;
        let error = m.error / m.flux.hypot(softening);
        let token = [(m.flux / softening).asinh() as f32, error.log10() as f32];
        if token.iter().all(|x| x.is_finite()) {
            return Ok(token);
        }
        Err(Error::object(
            &observation.id,
            format!(
                "the band at {} angstrom has the flux {:e} uJy and error {:e} uJy, which leave \
                 single precision; is `unit` right?",
                self.config.wavelengths[m.band], m.flux, m.error
            ),
        ))
    }

    /// What a token says; the inverse of [`token`](Self::token).
    fn measurement(&self, token: &[f32], position: f32) -> Result<Measurement> {
        let place = f64::from(position);
        let distance = |band: &usize| (self.places[*band] - place).abs();
        let band = (0..self.places.len())
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .filter(|band| distance(band) < SAME_BAND.log10() / 2.0)
            .ok_or_else(|| {
                Error::Failed(format!("there is no band at 10^{position} um; see `wavelengths`"))
            })?;
        let softening = self.config.softening;
        let flux = f64::from(token[0]).sinh() * softening;
        let error = 10f64.powf(token[1].into()) * flux.hypot(softening);
        Ok(Measurement { band, flux, error })
    }

    /// Fluxes and errors `[bands]` in the catalogue's unit, NaN where there is no token.
    fn photometry(&self, tokens: &Tokens) -> Result<[Vec<f64>; 2]> {
        tokens.check(&self.spec)?;
        let mut out = [vec![f64::NAN; self.places.len()], vec![f64::NAN; self.places.len()]];
        for (token, &position) in tokens.values.chunks_exact(WIDTH).zip(&tokens.positions) {
            let m = self.measurement(token, position)?;
            let (value, error) = self.config.unit.from_microjansky(m.flux, m.error);
            out[0][m.band] = value;
            out[1][m.band] = error;
        }
        Ok(out)
    }
}

impl Modality for Sed {
    fn spec(&self) -> TokenSpec {
        self.spec.clone()
    }

    fn tokenise(&self, observation: &Observation) -> Result<Option<Tokens>> {
        let Some(measurements) = self.measurements(observation)? else { return Ok(None) };
        let mut tokens = Tokens { len: measurements.len(), ..Tokens::default() };
        for m in &measurements {
            tokens.values.extend(self.token(observation, m)?);
            tokens.positions.push(self.places[m.band] as f32);
        }
        Ok(Some(tokens))
    }

    /// Fluxes `[bands]` in the catalogue's unit, NaN for bands without a token.
    fn detokenise(&self, tokens: &Tokens) -> Result<Array> {
        let [fluxes, _] = self.photometry(tokens)?;
        Array::new(vec![fluxes.len()], Data::F64(fluxes))
    }

    /// Fluxes and errors as the fields they were read from.
    fn reconstruct(&self, tokens: &Tokens) -> Result<Option<Observation>> {
        let mut observation = Observation::default();
        let names = [&self.config.flux, &self.config.error];
        for (name, numbers) in names.into_iter().zip(self.photometry(tokens)?) {
            let array = Array::new(vec![numbers.len()], Data::F64(numbers))?;
            let unit = Some(self.config.unit.name().to_owned());
            observation.fields.insert(name.clone(), Field { array, unit });
        }
        Ok(Some(observation))
    }

    fn choices(&self) -> Vec<(String, String)> {
        let softening = self.config.softening;
        vec![("Flux of a token".into(), format!("asinh(f / {softening} uJy), AB"))]
    }

    /// asinh flux of every band, 0 where it was not measured.
    fn raw_features(&self, observation: &Observation) -> Result<Option<Vec<f32>>> {
        let Some(measurements) = self.measurements(observation)? else { return Ok(None) };
        let mut features = vec![0.0; self.places.len()];
        for m in &measurements {
            features[m.band] = self.token(observation, m)?[0];
        }
        Ok(Some(features))
    }
}
