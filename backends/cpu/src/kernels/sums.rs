//! Sums over rows, in an order that does not depend on the number of threads.

use rayon::prelude::*;

use super::pool::Buffer;
use super::simd::{self, Simd, Task};
use super::tensors::CHUNK;

struct AddRows<'a> {
    rows: &'a [f32],
    sum: &'a mut [f32],
}

impl Task for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.sum.fill(0.0);
        for row in self.rows.chunks_exact(self.sum.len()) {
            simd::update(
                simd,
                self.sum,
                [row],
                #[inline(always)]
                |sum, [x]| simd.add(sum, x),
            );
        }
    }
}

/// The sum of the rows of `width` numbers.
pub(super) fn of_rows(rows: &[f32], width: usize) -> Buffer {
    let chunk = (CHUNK / width.max(1)).max(1) * width;
    let mut partial = Buffer::new(rows.len().div_ceil(chunk) * width);
    let tasks = rows.par_chunks(chunk).zip(partial.par_chunks_mut(width));
    tasks.for_each(|(rows, sum)| simd::run(AddRows { rows, sum }));
    let mut sum = Buffer::new(width);
    simd::run(AddRows { rows: &partial, sum: &mut sum });
    sum
}
