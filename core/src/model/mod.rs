//! The model: a GPT-2-like decoder over tokens of any modality.
//!
//! x = encoder(token) + position; per block x += attention(norm(x)), x += mlp(norm(x));
//! then a final norm and, per modality, a decoder. Layer norms have a gain and no bias
//! (eps 1e-5); linear layers of the blocks have no bias; the MLP is four times as wide
//! with a tanh-GELU.

mod cache;
mod config;
mod device;
mod forward;
mod init;

pub(crate) use cache::Cache;
pub use config::{Init, ModelConfig, ParameterSpec, Tokeniser};
pub(crate) use device::DeviceBatch;
pub(crate) use forward::{BatchLosses, Weights, decode, losses, states};
pub use init::initial_parameters;
