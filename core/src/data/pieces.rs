//! The numbers of a batch, where they lie.

use super::{Uploaded, Uploads};
use crate::error::Result;
use crate::numbers::Numbers;

/// Numbers of several spans, one after the other: each piece stays where it is, in an object's
/// tokens or in a mapped file, until all are wanted side by side.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    pieces: Vec<Numbers>,
    len: usize,
    /// All of them on a device.
    uploaded: Option<Uploaded>,
}

impl Pieces {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `piece`.
    pub(crate) fn push(&mut self, piece: Numbers) {
        self.len += piece.len();
        self.pieces.push(piece);
        self.uploaded = None;
    }

    /// The pieces, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Numbers> {
        self.pieces.iter()
    }

    /// All numbers side by side; without a copy where they are one vector that nobody else
    /// holds.
    pub fn into_vec(mut self) -> Vec<f32> {
        if self.pieces.len() == 1
            && let Some(piece) = self.pieces.pop()
        {
            return piece.into_vec();
        }
        let mut out = Vec::with_capacity(self.len);
        self.pieces.iter().for_each(|piece| piece.append_to(&mut out));
        out
    }

    /// Puts the numbers side by side, so that [`into_vec`](Self::into_vec) only hands them over.
    pub(crate) fn gather(&mut self) {
        *self = std::mem::take(self).into_vec().into();
    }

    /// Brings the numbers onto a device, or puts them side by side where it has no room for them.
    pub(super) fn upload(&mut self, uploads: &dyn Uploads) -> Result<()> {
        self.uploaded = uploads.upload(self)?;
        if self.uploaded.is_none() {
            self.gather();
        }
        Ok(())
    }

    /// The numbers where [`Batch::upload`](super::Batch::upload) brought them, if it did.
    pub fn uploaded(&self) -> Option<&Uploaded> {
        self.uploaded.as_ref()
    }

    /// Copies the numbers side by side into `room`, which has as many.
    pub fn copy_to(&self, mut room: &mut [f32]) {
        for piece in &self.pieces {
            let (part, rest) = room.split_at_mut(piece.len());
            piece.copy_to(part);
            room = rest;
        }
    }
}

impl From<Vec<f32>> for Pieces {
    fn from(numbers: Vec<f32>) -> Self {
        Self { len: numbers.len(), pieces: vec![numbers.into()], uploaded: None }
    }
}

impl<T: AsRef<[f32]> + ?Sized> PartialEq<T> for Pieces {
    fn eq(&self, other: &T) -> bool {
        self.iter().flat_map(|piece| piece.iter()).eq(other.as_ref())
    }
}

/// The same numbers, however they are cut.
impl PartialEq for Pieces {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.iter(), other.iter());
        ours.flat_map(|piece| piece.iter()).eq(theirs.flat_map(|piece| piece.iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_put_side_by_side_in_order() {
        let mut all = Numbers::from(vec![1.0, 2.0, 3.0]);
        all.share();
        let mut pieces = Pieces::default();
        for range in [1..3, 0..0, 0..2] {
            pieces.push(all.part(range));
        }
        assert_eq!((pieces.len(), &pieces), (4, &Pieces::from(vec![2.0, 3.0, 1.0, 2.0])));
        pieces.gather();
        assert_eq!(pieces.iter().count(), 1);
        let place = pieces.iter().next().map(|piece| piece.as_ptr());
        let numbers = pieces.into_vec();
        assert_eq!((&numbers[..], Some(numbers.as_ptr())), (&[2.0, 3.0, 1.0, 2.0][..], place));
    }
}
