//! What a model answers to recorded tokens, asked so that each of its decoders speaks.

use std::collections::BTreeMap;

use crate::data::{Assembly, Batch, Purpose, Row, Sequence, Task};
use crate::engine::{HostTensor, Layer, Session, StateDict};
use crate::error::Result;
use crate::model::ModelConfig;

/// Key of a self-check's metadata that says how its tokens were put before the model.
const KEY: &str = "chain";
/// Its value where [`Chain::AsTrained`].
const AS_TRAINED: &str = "as-trained";
/// Numbers of an answer that are recorded at most.
const NUMBERS: usize = 1 << 16;
/// What the answers to the second question are called, after the modality.
const AGAIN: &str = " turned";
/// Name of hidden states among the answers.
const HIDDEN: &str = "hidden";

/// How recorded tokens are put before the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// In the order and with the delimiters, the mask token and the sight of the training; of several
    /// spans twice, with the spans turned round, or with the other tokens hidden.
    AsTrained,
    /// One after the other and each token from those before it, as the first self-checks were
    /// recorded: neither delimiters nor the first span's decoder have a say.
    Plain,
}

impl Chain {
    /// What the metadata of a self-check say.
    pub(super) fn of(metadata: &BTreeMap<String, String>) -> Self {
        match metadata.get(KEY).map(String::as_str) {
            Some(AS_TRAINED) => Self::AsTrained,
            _ => Self::Plain,
        }
    }

    /// Adds what says so to the metadata of a self-check.
    pub(super) fn put(self, metadata: &mut BTreeMap<String, String>) {
        if self == Self::AsTrained {
            metadata.insert(KEY.to_owned(), AS_TRAINED.to_owned());
        }
    }
}

/// What the model makes of `rows`: the first numbers of its predictions by modality, and of its
/// hidden states where a row is too short to predict anything.
///
/// # Errors
/// When the rows do not fit the model, or the device fails.
pub(super) fn answers(
    rows: &[(String, Row)],
    session: &mut dyn Session,
    chain: Chain,
) -> Result<StateDict> {
    let mut outputs = match chain {
        Chain::Plain => plainly(rows, session)?,
        Chain::AsTrained => as_trained(rows, session)?,
    };
    for HostTensor { data, .. } in outputs.values_mut() {
        data.truncate(NUMBERS);
    }
    Ok(outputs)
}

fn plainly(rows: &[(String, Row)], session: &mut dyn Session) -> Result<StateDict> {
    let specs = session.model().modalities.clone();
    if rows.iter().any(|(_, row)| tokens(row) < 2) {
        let batch = Batch::assemble(rows, &specs, Purpose::Read)?;
        return Ok(StateDict::from([(HIDDEN.to_owned(), session.hidden(&batch, Layer::Final)?)]));
    }
    session.predict(&Batch::assemble(rows, &specs, Purpose::Predict)?)
}

fn as_trained(rows: &[(String, Row)], session: &mut dyn Session) -> Result<StateDict> {
    let model = session.model().clone();
    let assembly = Assembly {
        specs: &model.modalities,
        delimiters: model.delimiters,
        full: model.mask_token,
        row_length: None,
    };
    let mut outputs = StateDict::new();
    // What comes first is not predicted, and what comes last predicts nothing.
    let several = rows.iter().any(|(_, row)| row.len() > 1);
    for again in [false, true].into_iter().take(1 + usize::from(several)) {
        let mut laid = rows.to_vec();
        if again && !model.mask_token {
            laid.iter_mut().for_each(|(_, row)| row.reverse());
        }
        let (mut asked, mut short) = (Vec::new(), Vec::new());
        for (id, spans) in &laid {
            match task(spans, &model, again) {
                Some(task) => asked.push(Sequence { id, spans, task }),
                None => short.push(Sequence { id, spans, task: Task::Read }),
            }
        }
        if !asked.is_empty() {
            let found = session.predict(&assembly.batch(&asked)?)?;
            let named = |name| if again { format!("{name}{AGAIN}") } else { name };
            outputs.extend(found.into_iter().map(|(name, tensor)| (named(name), tensor)));
        }
        if !short.is_empty() && !again {
            let states = session.hidden(&assembly.batch(&short)?, Layer::Final)?;
            outputs.insert(HIDDEN.to_owned(), states);
        }
    }
    Ok(outputs)
}

/// What is asked of an object's spans; `None` where nothing can be. Of a masked autoencoder every
/// other token is hidden, and, when it is asked `again`, the rest.
fn task(spans: &Row, model: &ModelConfig, again: bool) -> Option<Task> {
    let tokens = tokens(spans);
    if model.mask_token {
        let mask: Vec<bool> = (0..tokens).map(|k| k.is_multiple_of(2) != again).collect();
        return mask.contains(&true).then_some(Task::Masked(mask));
    }
    let delimiters = if model.delimiters { (2 * spans.len()).saturating_sub(1) } else { 0 };
    (tokens + delimiters >= 2).then_some(Task::Next)
}

fn tokens(row: &Row) -> usize {
    row.iter().map(|(_, tokens)| tokens.len).sum()
}
