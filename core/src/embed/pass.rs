//! Objects to embeddings: every object of the data through the model once, to disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::made::{self, Batch, Made};
use super::npy::NpySink;
use super::{Description, Embeddings, ParquetSink, Rows, label_columns};
use crate::data::{Dataset, Excerpt, Loaded, Loader, Purpose, SharedRejections, Split};
use crate::engine::{HostTensor, Layer, Session};
use crate::error::{Error, Result};
use crate::observation::{LabelUnits, Labels, Observation};
use crate::parallel::{Alone, Ranks, agree, agree_with, settled};
use crate::probe::Features;
use crate::progress::Progress;
use crate::recipe::{EmbedConfig, Pooling};

/// Where embeddings go.
#[derive(Clone, Debug)]
pub struct Target {
    /// The Parquet file.
    pub parquet: PathBuf,
    /// The `.npy` file, if one is wanted.
    pub npy: Option<PathBuf>,
    /// What the file says of itself.
    pub description: Description,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Written {
    /// Number of objects.
    pub objects: usize,
    /// Shape of each object's embedding.
    pub shape: Vec<usize>,
}

/// The splits that are embedded, in order.
fn splits(config: &EmbedConfig) -> Vec<Split> {
    let all = [Split::Train, Split::Validation, Split::Test];
    let asked = |split: &Split| config.splits.is_empty() || config.splits.contains(split);
    all.into_iter().filter(asked).collect()
}

/// Embeds every usable object of `data`, or of `config.splits`, with the parameters that `session`
/// holds: training objects first, then validation, then test. Rows go to disk as they are made. `label`
/// names the work in the progress. Of `ranks` each embeds its share, and rank 0 writes.
///
/// # Errors
/// When the data, the device or the disk fail, or when all tokens are asked for and objects
/// have different numbers of them.
pub fn embed(
    label: &'static str,
    data: &Arc<Dataset>,
    session: &mut dyn Session,
    config: &EmbedConfig,
    (workers, ranks): (usize, &dyn Ranks),
    target: &Target,
) -> Result<Written> {
    let layer = config.layer(session.model().layers)?;
    let mut description = describe(config);
    description.extend(target.description.clone());
    let mut output = Output::new(data, Target { description, ..target.clone() });
    let splits = &splits(config)[..];
    let pass = Pass { label, data, config, splits, workers, ranks };
    let make = |loaded: &Loaded| {
        let states = session.hidden(&loaded.batch, layer)?;
        let slots = loaded.batch.token_slots();
        let pool = |row: usize| pool(&states, row, &slots[row], config.pooling);
        rows_of(loaded, |row| Ok(Some(pool(row))))
    };
    pass.each_batch(make, |rows, split| output.take(rows, split))?;
    let written = finish(output, ranks)?;
    written.ok_or_else(|| Error::Failed("no object could be embedded".into()))
}

/// The rows of the objects of a batch that `vector` gives a shape and numbers.
fn rows_of(
    loaded: &Loaded,
    vector: impl Fn(usize) -> Result<Option<(Vec<usize>, Vec<f32>)>>,
) -> Result<Vec<Made>> {
    let mut rows = Vec::new();
    for (row, observation) in loaded.observations.iter().enumerate() {
        if let Some((shape, vector)) = vector(row)? {
            let (id, labels) = (observation.id.clone(), observation.labels.clone());
            rows.push(Made { id, labels, shape, vector });
        }
    }
    Ok(rows)
}

/// Finishes the files on rank 0; every rank learns what was written.
fn finish(output: Output, ranks: &dyn Ranks) -> Result<Option<Written>> {
    let written = if ranks.rank() == 0 { output.finish() } else { Ok(None) };
    let written = agree(ranks, written)?;
    if ranks.size() == 1 {
        return Ok(written);
    }
    let wrong = |e: serde_json::Error| Error::Failed(format!("cannot tell what was written: {e}"));
    let told = ranks.broadcast(serde_json::to_vec(&written).map_err(wrong)?)?;
    serde_json::from_slice(&told).map_err(wrong)
}

/// Embeds the usable objects of `splits` from each of `layers` in one reading, in memory: a table
/// of the objects without vectors, and the features of each layer, `config.layer` not heeded. The
/// work of one process, whether there are others or not.
///
/// # Errors
/// As [`embed`].
pub fn features(
    data: &Arc<Dataset>,
    session: &mut dyn Session,
    config: &EmbedConfig,
    layers: &[Layer],
    splits: &[Split],
    workers: usize,
) -> Result<(Embeddings, Vec<Features>)> {
    let mut table = Embeddings { units: data.label_units().clone(), ..Embeddings::default() };
    let mut vectors = vec![Vec::new(); layers.len()];
    let pass = Pass { label: "embed", data, config, splits, workers, ranks: &Alone };
    let make = |loaded: &Loaded| {
        let slots = loaded.batch.token_slots();
        for (layer, vectors) in layers.iter().zip(&mut vectors) {
            let states = session.hidden(&loaded.batch, *layer)?;
            let rows = slots.iter().enumerate().take(loaded.rows.len());
            for (row, slots) in rows {
                vectors.extend(pool(&states, row, slots, config.pooling).1);
            }
        }
        rows_of(loaded, |_| Ok(Some((vec![0], Vec::new()))))
    };
    pass.each_batch(make, |rows, split| {
        for row in rows {
            table.ids.push(row.id);
            table.splits.push(split.name().to_owned());
            table.labels.push(row.labels);
        }
        Ok(())
    })?;
    if table.is_empty() {
        return Err(Error::Failed("no object could be embedded".into()));
    }
    let objects = table.len();
    let features = vectors.into_iter().map(|all| Features::new(all.len() / objects, all));
    let features: Vec<Features> = features.collect::<Result<_>>()?;
    Ok((table, features))
}

/// Writes the plain features of every usable object: what a probe on the embedding has to
/// beat. `None`, and no file, when no modality has any.
///
/// # Errors
/// As [`embed`].
pub fn raw_features(
    data: &Arc<Dataset>,
    config: &EmbedConfig,
    (workers, ranks): (usize, &dyn Ranks),
    target: &Target,
) -> Result<Option<Written>> {
    let widths = agree(ranks, raw_widths(data, config))?;
    let mut output = Output::new(data, target.clone());
    let splits = &splits(config)[..];
    let pass = Pass { label: "raw features", data, config, splits, workers, ranks };
    let make = |loaded: &Loaded| {
        rows_of(loaded, |row| {
            let object = (loaded.indices[row], &loaded.observations[row]);
            let vector = raw_vector(data, config, object, &widths)?;
            Ok((!vector.is_empty()).then(|| (vec![vector.len()], vector)))
        })
    };
    pass.each_batch(make, |rows, split| output.take(rows, split))?;
    finish(output, ranks)
}

/// How many plain features each modality that is read gives, by its name: those of the first
/// object that has it.
fn raw_widths(data: &Dataset, config: &EmbedConfig) -> Result<BTreeMap<String, usize>> {
    let names = data.modalities().keys();
    let mut left: Vec<_> = names.filter(|name| config.reads(name)).cloned().collect();
    let mut widths = BTreeMap::new();
    for index in 0..data.len() as u32 {
        if left.is_empty() {
            break;
        }
        let Some((observation, row)) = data.read(index)? else { continue };
        for (name, _) in row.iter().filter(|(name, _)| left.contains(name)) {
            let features = data.raw_features(index, &observation, name)?;
            widths.insert(name.clone(), features.map_or(0, |features| features.len()));
        }
        left.retain(|name| !widths.contains_key(name));
    }
    Ok(widths)
}

/// The plain features of one object; zeros where it lacks a modality.
fn raw_vector(
    data: &Dataset,
    config: &EmbedConfig,
    (index, observation): (u32, &Observation),
    widths: &BTreeMap<String, usize>,
) -> Result<Vec<f32>> {
    let mut vector = Vec::new();
    for name in data.modalities().keys().filter(|name| config.reads(name)) {
        let width = widths.get(name).copied().unwrap_or(0);
        let features = data.raw_features(index, observation, name)?;
        let features = features.unwrap_or_else(|| vec![0.0; width]);
        if features.len() != width {
            let message = format!(
                "it has {} raw features of modality {name}, and other objects {width}",
                features.len()
            );
            return Err(Error::object(&observation.id, message));
        }
        vector.extend(features);
    }
    Ok(vector)
}

/// One reading of all objects.
struct Pass<'a> {
    label: &'static str,
    data: &'a Arc<Dataset>,
    config: &'a EmbedConfig,
    splits: &'a [Split],
    workers: usize,
    ranks: &'a dyn Ranks,
}

impl Pass<'_> {
    /// Makes rows of every usable object of the splits, a batch at a time, and has them taken in
    /// order. Of several ranks each makes every so many batches, and rank 0 takes them all.
    fn each_batch(
        &self,
        mut make: impl FnMut(&Loaded) -> Result<Vec<Made>>,
        mut take: impl FnMut(Vec<Made>, Split) -> Result<()>,
    ) -> Result<()> {
        let (rank, every) = (self.ranks.rank(), self.ranks.size());
        let modalities = self.config.modalities.clone();
        let excerpt = Excerpt { modalities, tokens: self.config.tokens()? };
        let mut batches = Vec::new();
        for &split in self.splits {
            let chunks = self.data.splits.get(split).chunks(self.config.batch);
            batches.extend(chunks.map(|chunk| (split, chunk.to_vec())));
        }
        let count = batches.iter().map(|(_, chunk)| chunk.len() as u64).sum();
        let splits: Vec<_> = batches.iter().map(|(split, chunk)| (*split, chunk.len())).collect();
        let reader = self.data.clone();
        let mine = batches.len().saturating_sub(rank).div_ceil(every);
        let mut loader = Loader::start(self.workers, mine as u64, move |k| {
            reader.batch(&batches[rank + k as usize * every].1, Purpose::Read, &excerpt)
        });
        let mut progress = Progress::new(self.label, count, 0);
        let (mut done, mut taken) = (0, 0);
        let mut went = Ok(());
        for round in splits.chunks(every) {
            let mut batch = || -> Result<Batch> {
                let Some(loaded) = loader.next().transpose()?.flatten() else {
                    return Ok(Batch::default());
                };
                Ok(Batch { usable: loaded.rows.len() as u64, rows: make(&loaded)? })
            };
            let batch = went.and_then(|()| batch());
            let (batch, [stop]) = agree_with(self.ranks, batch, [crate::stop::asked()])?;
            let made = self.gather(batch)?;
            went = made.into_iter().zip(round).try_for_each(|(batch, (split, _))| {
                taken += batch.usable;
                take(batch.rows, *split)
            });
            done += round.iter().map(|(_, count)| *count as u64).sum::<u64>();
            progress.update(done, "objects");
            if stop {
                let rest = format!(" before {} was done; its files were not written", self.label);
                return Err(settled(crate::stop::stopped(&rest)));
            }
        }
        agree(self.ranks, went)?;
        SharedRejections::default().tell(self.ranks, self.data)?;
        let left_out = match done - taken {
            0 => String::new(),
            count => format!(", {count} left out: unusable, or without embed.modalities"),
        };
        progress.finish(&format!("{}: {taken} objects{left_out}", self.label));
        Ok(())
    }

    /// What every rank made of its batch, in their order, on rank 0.
    fn gather(&self, batch: Batch) -> Result<Vec<Batch>> {
        if self.ranks.size() == 1 {
            return Ok(vec![batch]);
        }
        let all = self.ranks.gather(&made::encode(&batch)?)?;
        all.iter().map(|bytes| made::decode(bytes)).collect()
    }
}

/// The files being written, opened at the first row, which says their shape.
struct Output {
    target: Target,
    columns: super::LabelColumns,
    units: LabelUnits,
    open: Option<Open>,
    ids: Vec<String>,
    splits: Vec<String>,
    labels: Vec<Labels>,
    vectors: Vec<f32>,
}

struct Open {
    shape: Vec<usize>,
    parquet: ParquetSink,
    npy: Option<NpySink>,
}

impl Output {
    fn new(data: &Dataset, target: Target) -> Self {
        let all: Vec<Labels> = (0..data.len()).map(|k| data.labels(k as u32)).collect();
        Self {
            target,
            columns: label_columns(&all),
            units: data.label_units().clone(),
            open: None,
            ids: Vec::new(),
            splits: Vec::new(),
            labels: Vec::new(),
            vectors: Vec::new(),
        }
    }

    /// Hands rows to the files.
    fn take(&mut self, rows: Vec<Made>, split: Split) -> Result<()> {
        rows.into_iter().try_for_each(|row| self.push(row, split))?;
        self.flush()
    }

    fn push(&mut self, Made { id, labels, shape, vector }: Made, split: Split) -> Result<()> {
        match &self.open {
            None => {
                let Target { parquet, npy, description } = &self.target;
                let columns = (self.columns.clone(), &self.units);
                let npy = npy.as_ref().map(|path| NpySink::create(path, &shape)).transpose()?;
                let parquet = ParquetSink::create(parquet, &shape, columns, description)?;
                self.open = Some(Open { shape, parquet, npy });
            }
            Some(open) if open.shape != shape => {
                return Err(Error::object(
                    &id,
                    format!(
                        "its features have the shape {shape:?} and those before it {:?}; pool \
                         them with embed.pooling = \"mean\"",
                        open.shape
                    ),
                ));
            }
            Some(_) => {}
        }
        self.ids.push(id);
        self.splits.push(split.name().to_owned());
        self.labels.push(labels);
        self.vectors.extend(vector);
        Ok(())
    }

    /// Hands the rows pushed so far to the files.
    fn flush(&mut self) -> Result<()> {
        if let Some(open) = &mut self.open {
            let Self { ids, splits, labels, vectors, .. } = self;
            open.parquet.write(&Rows { ids, splits, labels, vectors })?;
            if let Some(npy) = &mut open.npy {
                npy.write(ids, vectors)?;
            }
        }
        self.ids.clear();
        self.splits.clear();
        self.labels.clear();
        self.vectors.clear();
        Ok(())
    }

    fn finish(self) -> Result<Option<Written>> {
        let Some(open) = self.open else { return Ok(None) };
        if let Some(npy) = open.npy {
            npy.finish()?;
        }
        Ok(Some(Written { objects: open.parquet.finish()?, shape: open.shape }))
    }
}

/// The embedding of row `row`, whose tokens are in `slots`, with its shape.
fn pool(
    states: &HostTensor,
    row: usize,
    slots: &[usize],
    pooling: Pooling,
) -> (Vec<usize>, Vec<f32>) {
    let (t, d) = (states.shape[1], states.shape[2]);
    let token = |slot: &usize| &states.data[(row * t + slot) * d..][..d];
    let len = slots.len();
    match pooling {
        Pooling::None => (vec![len, d], slots.iter().flat_map(token).copied().collect()),
        Pooling::Last => (vec![d], slots.last().map(token).unwrap_or_default().to_vec()),
        Pooling::Mean => {
            let mut sum = vec![0.0f64; d];
            for slot in slots {
                sum.iter_mut().zip(token(slot)).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            (vec![d], sum.iter().map(|sum| (sum / len as f64) as f32).collect())
        }
    }
}

/// How embeddings by `config` are made, as they carry it with them.
pub(crate) fn describe(config: &EmbedConfig) -> Description {
    let pooling = match config.pooling {
        Pooling::Mean => "mean",
        Pooling::Last => "last",
        Pooling::None => "none",
    };
    let modalities = match config.modalities.is_empty() {
        true => "all".to_owned(),
        false => config.modalities.join(", "),
    };
    let mut out = Description::from([
        ("modalities".to_owned(), modalities),
        ("layer".to_owned(), config.layer.to_string().replace('"', "")),
        ("tokens".to_owned(), config.tokens.to_string().replace('"', "")),
        ("pooling".to_owned(), pooling.to_owned()),
    ]);
    if !config.splits.is_empty() {
        let names: Vec<&str> = config.splits.iter().map(|split| split.name()).collect();
        out.insert("splits".to_owned(), names.join(", "));
    }
    out
}
