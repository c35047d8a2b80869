//! Objects to embeddings: every object of the data through the model once.

use std::sync::Arc;

use super::{Description, Embeddings};
use crate::data::{Dataset, Loaded, Loader, Purpose, Split};
use crate::engine::{HostTensor, Layer, Session};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::recipe::{EmbedConfig, Pooling};

/// Where hidden states are read and how they become one vector an object.
#[derive(Clone, Copy, Debug)]
struct Reading {
    layer: Layer,
    tokens: Option<usize>,
    pooling: Pooling,
}

/// Embeds every usable object of `data` with the parameters that `session` holds: training
/// objects first, then validation, then test. `label` names the work in the progress.
///
/// # Errors
/// When the data or the device fail, or when all tokens are asked for and objects have
/// different numbers of them.
pub fn embed(
    label: &'static str,
    data: &Arc<Dataset>,
    session: &mut dyn Session,
    config: &EmbedConfig,
    workers: usize,
) -> Result<Embeddings> {
    let reading = Reading {
        layer: config.layer(session.model().layers)?,
        tokens: config.tokens()?,
        pooling: config.pooling,
    };
    let mut table = Embeddings::default();
    each_batch(label, data, config.batch, workers, reading.tokens, |loaded, split| {
        let states = session.hidden(&loaded.batch, reading.layer)?;
        for (row, (id, spans)) in loaded.rows.iter().enumerate() {
            let len = spans.iter().map(|(_, tokens)| tokens.len).sum();
            let (shape, vector) = pool(&states, row, len, reading.pooling);
            let labels = loaded.observations[row].labels.clone();
            push(&mut table, id, split, labels, shape, &vector)?;
        }
        Ok(())
    })?;
    table.description = describe(config);
    Ok(table)
}

/// The plain features of every usable object: what a probe on the embedding has to beat.
/// `None` when no modality has any.
///
/// # Errors
/// As [`embed`].
pub fn raw_features(
    data: &Arc<Dataset>,
    config: &EmbedConfig,
    workers: usize,
) -> Result<Option<Embeddings>> {
    let mut table = Embeddings::default();
    let limit = config.tokens()?;
    each_batch("raw features", data, config.batch, workers, limit, |loaded, split| {
        for observation in &loaded.observations {
            let mut vector = Vec::new();
            for modality in data.modalities().values() {
                vector.extend(modality.raw_features(observation)?.into_iter().flatten());
            }
            if !vector.is_empty() {
                let (id, labels) = (&observation.id, observation.labels.clone());
                push(&mut table, id, split, labels, vec![vector.len()], &vector)?;
            }
        }
        Ok(())
    })?;
    table.description = Description::from([("features".into(), "raw".into())]);
    Ok((!table.is_empty()).then_some(table))
}

/// Calls `take` with every usable object of every split, a batch at a time.
fn each_batch(
    label: &'static str,
    data: &Arc<Dataset>,
    size: usize,
    workers: usize,
    limit: Option<usize>,
    mut take: impl FnMut(&Loaded, Split) -> Result<()>,
) -> Result<()> {
    let mut batches = Vec::new();
    for split in [Split::Train, Split::Validation, Split::Test] {
        let chunks = data.splits.get(split).chunks(size.max(1));
        batches.extend(chunks.map(|chunk| (split, chunk.to_vec())));
    }
    let mut progress = Progress::new(label, data.len() as u64, 0);
    let mut done = 0;
    let splits: Vec<_> = batches.iter().map(|(split, chunk)| (*split, chunk.len())).collect();
    let reader = data.clone();
    let loader = Loader::start(workers, batches.len() as u64, move |k| {
        reader.batch(&batches[k as usize].1, Purpose::Read, limit)
    });
    for (loaded, (split, count)) in loader.zip(splits) {
        if let Some(loaded) = loaded? {
            take(&loaded, split)?;
        }
        done += count as u64;
        progress.update(done, "objects");
        if crate::stop::asked() {
            return Err(Error::Interrupted(format!("{label} stopped; nothing was written")));
        }
    }
    progress.finish(&format!("{label}: {done} objects"));
    Ok(())
}

/// The embedding of row `row`, which has `len` tokens, with its shape.
fn pool(states: &HostTensor, row: usize, len: usize, pooling: Pooling) -> (Vec<usize>, Vec<f32>) {
    let (t, d) = (states.shape[1], states.shape[2]);
    let tokens = &states.data[row * t * d..(row * t + len) * d];
    match pooling {
        Pooling::None => (vec![len, d], tokens.to_vec()),
        Pooling::Last => (vec![d], tokens[(len - 1) * d..].to_vec()),
        Pooling::Mean => {
            let mut sum = vec![0.0f64; d];
            for token in tokens.chunks_exact(d) {
                sum.iter_mut().zip(token).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            (vec![d], sum.iter().map(|sum| (sum / len as f64) as f32).collect())
        }
    }
}

fn push(
    table: &mut Embeddings,
    id: &str,
    split: Split,
    labels: crate::observation::Labels,
    shape: Vec<usize>,
    vector: &[f32],
) -> Result<()> {
    if table.is_empty() {
        table.shape = shape;
    } else if table.shape != shape {
        return Err(Error::object(
            id,
            format!(
                "its features have the shape {shape:?} and those before it {:?}; pool them with \
                 embed.pooling = \"mean\"",
                table.shape
            ),
        ));
    }
    table.push(id, split.name(), labels, vector)
}

fn describe(config: &EmbedConfig) -> Description {
    let pooling = match config.pooling {
        Pooling::Mean => "mean",
        Pooling::Last => "last",
        Pooling::None => "none",
    };
    Description::from([
        ("layer".to_owned(), config.layer.to_string().replace('"', "")),
        ("tokens".to_owned(), config.tokens.to_string().replace('"', "")),
        ("pooling".to_owned(), pooling.to_owned()),
    ])
}
