//! Numbers that are owned, shared, or lie in a mapped file, where they are not copied until they
//! change.

use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, OnceLock};

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

/// Keeps linear algebra on the thread that asks for it: the library's products and
/// decompositions round differently on another number of threads, and results would depend on
/// the machine. What is large is cut into parts by whoever asks.
pub(crate) fn in_one_order() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| faer::set_global_parallelism(faer::Par::Seq));
}

/// Bytes that several owners read, such as a mapped file.
pub(crate) type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A vector of `f32` that may be a part of a mapped file or of a vector with other owners. It
/// reads as a slice; what changes it copies such a part first.
#[derive(Clone)]
pub struct Numbers(Held);

#[derive(Clone)]
enum Held {
    Owned(Vec<f32>),
    /// A range of a vector.
    Shared(Arc<Vec<f32>>, Range<usize>),
    /// A range of bytes that [`Numbers::mapped`] has found to be whole, aligned `f32`.
    Mapped(SharedBytes, Range<usize>),
    /// A range of bytes that are little-endian `f16`, and the same widened, once it was read as
    /// a slice.
    Half(SharedBytes, Range<usize>, OnceLock<Vec<f32>>),
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

    /// The numbers of half precision in `range` of `bytes`, little-endian, widened where they
    /// are needed. `None`: the range is not one of whole numbers in `bytes`.
    pub(crate) fn mapped_half(bytes: &SharedBytes, range: Range<usize>) -> Option<Self> {
        let whole = (**bytes).as_ref().get(range.clone())?.len().is_multiple_of(2);
        whole.then(|| Self(Held::Half(bytes.clone(), range, OnceLock::new())))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Held::Owned(numbers) => numbers.len(),
            Held::Shared(_, range) => range.len(),
            Held::Mapped(_, range) => range.len() / 4,
            Held::Half(_, range, _) => range.len() / 2,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vector itself, copied from where it is shared with others.
    pub fn to_mut(&mut self) -> &mut Vec<f32> {
        let numbers = match std::mem::replace(&mut self.0, Held::Owned(Vec::new())) {
            Held::Owned(numbers) => numbers,
            Held::Shared(all, range) if range == (0..all.len()) => Arc::unwrap_or_clone(all),
            held => Self(held).to_vec(),
        };
        self.0 = Held::Owned(numbers);
        match &mut self.0 {
            Held::Owned(numbers) => numbers,
            _ => unreachable!("owned since the line above"),
        }
    }

    /// The vector, without a copy where nobody else holds it.
    pub fn into_vec(mut self) -> Vec<f32> {
        std::mem::take(self.to_mut())
    }

    /// Lets clones and parts hold the same memory from now on.
    pub(crate) fn share(&mut self) {
        if let Held::Owned(numbers) = &mut self.0 {
            let all = 0..numbers.len();
            self.0 = Held::Shared(Arc::new(std::mem::take(numbers)), all);
        }
    }

    /// The numbers `range`, which must be there: without a copy, unless they have one owner.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        let within = |of: &Range<usize>, size: usize| {
            assert!(range.start <= range.end && range.end * size <= of.len(), "a part of them");
            of.start + range.start * size..of.start + range.end * size
        };
        Self(match &self.0 {
            Held::Owned(numbers) => Held::Owned(numbers[range].to_vec()),
            Held::Shared(all, of) => Held::Shared(all.clone(), within(of, 1)),
            Held::Mapped(bytes, of) => Held::Mapped(bytes.clone(), within(of, 4)),
            Held::Half(bytes, of, _) => Held::Half(bytes.clone(), within(of, 2), OnceLock::new()),
        })
    }

    /// Copies these numbers to `out`, which has room for as many.
    pub(crate) fn copy_to(&self, out: &mut [f32]) {
        match &self.0 {
            Held::Half(bytes, range, wide) if wide.get().is_none() => {
                widen_to(halves(bytes, range), out);
            }
            _ => out.copy_from_slice(self),
        }
    }

    /// Appends these numbers to `out`.
    pub(crate) fn append_to(&self, out: &mut Vec<f32>) {
        match &self.0 {
            Held::Half(bytes, range, wide) if wide.get().is_none() => {
                widen(halves(bytes, range), out);
            }
            _ => out.extend_from_slice(self),
        }
    }

    /// Keeps the first `len` numbers.
    pub fn truncate(&mut self, len: usize) {
        let shorten = |range: &mut Range<usize>, size: usize| {
            range.end = range.end.min(range.start.saturating_add(len.saturating_mul(size)));
        };
        match &mut self.0 {
            Held::Owned(numbers) => numbers.truncate(len),
            Held::Shared(_, range) => shorten(range, 1),
            Held::Mapped(_, range) => shorten(range, 4),
            Held::Half(_, range, wide) => {
                shorten(range, 2);
                wide.take();
            }
        }
    }

    /// Appends `more`.
    pub fn extend_from_slice(&mut self, more: &[f32]) {
        self.to_mut().extend_from_slice(more);
    }
}

/// The bytes of the half-precision numbers in `range` of `bytes`.
fn halves<'a>(bytes: &'a SharedBytes, range: &Range<usize>) -> &'a [u8] {
    (**bytes).as_ref().get(range.clone()).unwrap_or_default()
}

/// Appends half-precision numbers to `out`.
fn widen(halves: &[u8], out: &mut Vec<f32>) {
    // A block at a time, so that the zeros it lands on are still in the first cache.
    for block in halves.chunks(8192) {
        let first = out.len();
        out.resize(first + block.len() / 2, 0.0);
        widen_to(block, &mut out[first..]);
    }
}

/// Widens half-precision numbers to `out`, which has room for as many.
fn widen_to(halves: &[u8], out: &mut [f32]) {
    match bytemuck::try_cast_slice::<u8, u16>(halves) {
        // Many at a time.
        Ok(bits) if cfg!(target_endian = "little") => {
            bits.reinterpret_cast::<f16>().convert_to_f32_slice(out);
        }
        _ => {
            for (wide, &half) in out.iter_mut().zip(halves.as_chunks::<2>().0) {
                *wide = f16::from_le_bytes(half).to_f32();
            }
        }
    }
}

impl Deref for Numbers {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Held::Owned(numbers) => numbers,
            Held::Shared(all, range) => all.get(range.clone()).unwrap_or_default(),
            Held::Mapped(bytes, range) => {
                let part = (**bytes).as_ref().get(range.clone()).unwrap_or_default();
                bytemuck::try_cast_slice(part).unwrap_or_default()
            }
            Held::Half(bytes, range, wide) => wide.get_or_init(|| {
                let mut out = Vec::with_capacity(range.len() / 2);
                widen(halves(bytes, range), &mut out);
                out
            }),
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

    #[test]
    fn shared_parts_hold_the_same_memory_until_one_changes() {
        let mut all = Numbers::from(vec![1.0, 2.0, 3.0, 4.0]);
        let place = all.as_ptr();
        all.share();
        let mut part = all.part(1..4).part(1..3);
        assert_eq!((&*part, part.as_ptr()), (&[3.0, 4.0][..], place.wrapping_add(2)));
        part[0] = 9.0;
        assert_eq!((&*part, &*all), (&[9.0, 4.0][..], &[1.0, 2.0, 3.0, 4.0][..]));
        let all = all.into_vec();
        assert_eq!(all.as_ptr(), place);
    }

    #[test]
    fn halves_are_widened_where_they_are_read() {
        let halves = [0.5f32, -2.0, 65504.0, 1e-7].map(f16::from_f32);
        let bytes: Vec<u8> = halves.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shared: SharedBytes = Arc::new(bytes);
        let expected = halves.map(f16::to_f32);
        for start in 0..2 {
            let all = Numbers::mapped_half(&shared, 2 * start..8).expect("whole numbers");
            assert_eq!((all.len(), &all), (4 - start, &Numbers::from(expected[start..].to_vec())));
            let (mut part, mut out) = (all.part(1..3), vec![7.0]);
            part.append_to(&mut out);
            assert_eq!(out[1..], expected[start + 1..start + 3]);
            part.truncate(1);
            assert_eq!(part, [expected[start + 1]]);
        }
        assert!(Numbers::mapped_half(&shared, 0..3).is_none());
    }
}
