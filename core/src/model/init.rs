//! Initial parameters, a pure function of the model's shape and a seed.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::config::{Init, ModelConfig};
use crate::engine::{HostTensor, StateDict};

/// Draws every parameter. Each has a stream of its own, keyed by its name, so that adding
/// a modality leaves the others' parameters as they were.
pub fn initial_parameters(model: &ModelConfig, seed: u64) -> StateDict {
    let draw = |spec: super::ParameterSpec| {
        let n = spec.elements();
        let data = match spec.init {
            Init::Zeros => vec![0.0; n],
            Init::Ones => vec![1.0; n],
            Init::Normal(std) => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(xxhash_rust::xxh3::xxh3_64(spec.name.as_bytes()));
                match Normal::new(0.0f32, std) {
                    Ok(normal) => normal.sample_iter(&mut rng).take(n).collect(),
                    Err(_) => vec![0.0; n], // only for a negative or NaN std, which no model has
                }
            }
        };
        (spec.name, HostTensor { shape: spec.shape, data })
    };
    model.parameters().into_iter().map(draw).collect()
}
