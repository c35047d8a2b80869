//! Rows of embeddings on their way between processes.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::observation::{Label, Labels};

/// The row of one object.
#[derive(Debug, PartialEq)]
pub(super) struct Made {
    pub(super) id: String,
    pub(super) labels: Labels,
    pub(super) shape: Vec<usize>,
    /// As many numbers as the shape says.
    pub(super) vector: Vec<f32>,
}

/// What became of a batch of objects.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Batch {
    /// Objects that could be used.
    pub(super) usable: u64,
    pub(super) rows: Vec<Made>,
}

/// A label whose number JSON keeps, whatever it is.
#[derive(Serialize, Deserialize)]
enum Kept {
    Bits(u64),
    Text(String),
}

/// All of a batch but its numbers, which follow as bytes.
#[derive(Serialize, Deserialize)]
struct Head {
    usable: u64,
    rows: Vec<RowHead>,
}

/// Id, labels and shape of a row.
type RowHead = (String, Vec<(String, Kept)>, Vec<usize>);

fn wrong(error: impl std::fmt::Display) -> Error {
    Error::Failed(format!("cannot read what another process has embedded: {error}"))
}

/// A batch as bytes: the length of its head, its head, its numbers.
pub(super) fn encode(batch: &Batch) -> Result<Vec<u8>> {
    let kept = |(name, label): (&String, &Label)| {
        let kept = match label {
            Label::Number(number) => Kept::Bits(number.to_bits()),
            Label::Text(text) => Kept::Text(text.clone()),
        };
        (name.clone(), kept)
    };
    let row =
        |row: &Made| (row.id.clone(), row.labels.iter().map(kept).collect(), row.shape.clone());
    let head = Head { usable: batch.usable, rows: batch.rows.iter().map(row).collect() };
    let head = serde_json::to_vec(&head).map_err(wrong)?;
    let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
    bytes.extend(head);
    for row in &batch.rows {
        bytes.extend(row.vector.iter().flat_map(|x| x.to_le_bytes()));
    }
    Ok(bytes)
}

/// What [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> Result<Batch> {
    let short = || wrong("its end is missing");
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
    let length = u64::from_le_bytes(*length) as usize;
    let (head, numbers) = rest.split_at_checked(length).ok_or_else(short)?;
    let head: Head = serde_json::from_slice(head).map_err(wrong)?;
    let mut numbers = numbers.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let label = |(name, kept)| match kept {
        Kept::Bits(bits) => (name, Label::Number(f64::from_bits(bits))),
        Kept::Text(text) => (name, Label::Text(text)),
    };
    let mut rows = Vec::with_capacity(head.rows.len());
    for (id, labels, shape) in head.rows {
        let count = shape.iter().product();
        let vector: Vec<f32> = numbers.by_ref().take(count).collect();
        if vector.len() < count {
            return Err(short());
        }
        rows.push(Made { id, labels: labels.into_iter().map(label).collect(), shape, vector });
    }
    Ok(Batch { usable: head.usable, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_arrive_as_they_left() {
        let labels = Labels::from([
            ("z".to_owned(), Label::Number(0.1)),
            ("far".to_owned(), Label::Number(f64::INFINITY)),
            ("class".to_owned(), Label::Text("S0".into())),
        ]);
        let row = |id: &str, labels: Labels, vector: Vec<f32>| Made {
            id: id.into(),
            labels,
            shape: vec![1, vector.len()],
            vector,
        };
        let rows = vec![row("a", labels, vec![1.5, -0.0]), row("b", Labels::new(), vec![f32::MAX])];
        let batch = Batch { usable: 3, rows };
        let bytes = encode(&batch).expect("writable");
        assert_eq!(decode(&bytes).expect("readable"), batch);
        assert!(decode(&bytes[..bytes.len() - 4]).is_err());
        assert!(decode(&bytes[..4]).is_err());
        let nothing = encode(&Batch::default()).expect("writable");
        assert_eq!(decode(&nothing).expect("readable"), Batch::default());
    }
}
