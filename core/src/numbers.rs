//! Numbers that are owned, or lie in a mapped file and are not copied until they change.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

/// Keeps linear algebra on the thread that asks for it: the library's products and
/// decompositions round differently on another number of threads, and results would depend on
/// the machine. What is large is cut into parts by whoever asks.
pub(crate) fn in_one_order() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| faer::set_global_parallelism(faer::Par::Seq));
}

/// Bytes that several owners read, such as a mapped file.
pub(crate) type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A vector of `f32` that may be a part of a mapped file. It reads as a slice; what changes
/// it copies a mapped part first.
#[derive(Clone)]
pub struct Numbers(Held);

#[derive(Clone)]
enum Held {
    Owned(Vec<f32>),
    /// A range of bytes that [`Numbers::mapped`] has found to be whole, aligned `f32`.
    Mapped(SharedBytes, Range<usize>),
}

impl Numbers {
    /// The numbers in `range` of `bytes`, little-endian, without a copy where the machine
    /// can read them in place. `None`: the range is not one of whole numbers in `bytes`.
    pub(crate) fn mapped(bytes: &SharedBytes, range: Range<usize>) -> Option<Self> {
        let part = (**bytes).as_ref().get(range.clone())?;
        if cfg!(target_endian = "little") && bytemuck::try_cast_slice::<u8, f32>(part).is_ok() {
            return Some(Self(Held::Mapped(bytes.clone(), range)));
        }
        let (numbers, rest) = part.as_chunks::<4>();
        rest.is_empty().then(|| numbers.iter().map(|&b| f32::from_le_bytes(b)).collect())
    }

    /// The vector itself, copied from the mapped file if it is there.
    pub fn to_mut(&mut self) -> &mut Vec<f32> {
        if let Held::Mapped(..) = self.0 {
            self.0 = Held::Owned(self.to_vec());
        }
        match &mut self.0 {
            Held::Owned(numbers) => numbers,
            Held::Mapped(..) => unreachable!("owned since the line above"),
        }
    }

    /// The vector, without a copy where it is owned.
    pub fn into_vec(mut self) -> Vec<f32> {
        std::mem::take(self.to_mut())
    }

    /// Keeps the first `len` numbers.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.0 {
            Held::Owned(numbers) => numbers.truncate(len),
            Held::Mapped(_, range) => {
                range.end = range.end.min(range.start.saturating_add(len.saturating_mul(4)));
            }
        }
    }

    /// Appends `more`.
    pub fn extend_from_slice(&mut self, more: &[f32]) {
        self.to_mut().extend_from_slice(more);
    }
}

impl Deref for Numbers {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Held::Owned(numbers) => numbers,
            Held::Mapped(bytes, range) => {
                let part = (**bytes).as_ref().get(range.clone()).unwrap_or_default();
                bytemuck::try_cast_slice(part).unwrap_or_default()
            }
        }
    }
}

impl DerefMut for Numbers {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.to_mut()
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<f32>> for Numbers {
    fn from(numbers: Vec<f32>) -> Self {
        Self(Held::Owned(numbers))
    }
}

impl FromIterator<f32> for Numbers {
    fn from_iter<I: IntoIterator<Item = f32>>(numbers: I) -> Self {
        Vec::from_iter(numbers).into()
    }
}

impl Extend<f32> for Numbers {
    fn extend<I: IntoIterator<Item = f32>>(&mut self, numbers: I) {
        self.to_mut().extend(numbers);
    }
}

impl<'a> IntoIterator for &'a Numbers {
    type Item = &'a f32;
    type IntoIter = std::slice::Iter<'a, f32>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: AsRef<[f32]> + ?Sized> PartialEq<T> for Numbers {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl std::fmt::Debug for Numbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_part_reads_in_place_and_is_copied_when_changed() {
        let bytes: Vec<u8> = [1.0f32, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let shared: SharedBytes = Arc::new(bytes);
        let mut part = Numbers::mapped(&shared, 4..12).expect("whole numbers");
        assert_eq!(part, [2.0, 3.0]);
        part.truncate(1);
        assert_eq!(part, [2.0]);
        part[0] = 7.0;
        part.extend_from_slice(&[8.0]);
        assert_eq!(part, [7.0, 8.0]);
        assert_eq!(Numbers::mapped(&shared, 0..12).expect("whole"), [1.0, 2.0, 3.0]);
        let backwards = Range { start: 8, end: 4 };
        for wrong in [0..3, 0..16, backwards, 12..usize::MAX] {
            assert!(Numbers::mapped(&shared, wrong.clone()).is_none(), "{wrong:?}");
        }
        assert_eq!(Numbers::mapped(&shared, 2..10).expect("copied where unaligned").len(), 2);
    }
}
