//! Products of small matrices that lie in the nearest cache: the tiles of attention.

use super::simd::Simd;

/// C = A·B, or C += A·B. A is read number by number, so its strides are free; rows of B
/// and C are whole vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    /// Rows of A and C.
    pub(crate) rows: usize,
    /// Columns of B and C; a multiple of the vector's length.
    pub(crate) columns: usize,
    /// Columns of A, rows of B.
    pub(crate) depth: usize,
    /// First number of A.
    pub(crate) a: *const f32,
    /// From one row of A to the next.
    pub(crate) a_row: usize,
    /// From one column of A to the next.
    pub(crate) a_column: usize,
    /// First number of B.
    pub(crate) b: *const f32,
    /// From one row of B to the next.
    pub(crate) b_row: usize,
    /// First number of C.
    pub(crate) c: *mut f32,
    /// From one row of C to the next.
    pub(crate) c_row: usize,
    /// Whether to add to C.
    pub(crate) add: bool,
}

impl Product {
    /// Computes it.
    ///
    /// # Safety
    /// The three matrices lie where their pointers and strides say, and nothing else
    /// touches C.
    #[inline(always)]
    pub(crate) unsafe fn compute<S: Simd>(&self, simd: S) {
        let vectors = self.columns / S::LANES;
        let mut done = 0;
        while done < vectors {
            let left = vectors - done;
            let wide = left.div_ceil(left.div_ceil(S::MAX_COLUMNS)); // nearly equal parts
            let at = done * S::LANES;
            // SAFETY: `wide` vectors are left in every row, and as the caller promises. The
            // heights keep accumulators, a row of B and one broadcast within 32 registers
            // (AVX-512) or 16.
            unsafe {
                match (wide, S::LANES) {
                    (1, 16) => self.columns_at::<S, 16, 1>(simd, at),
                    (1, _) => self.columns_at::<S, 8, 1>(simd, at),
                    (2, 16) => self.columns_at::<S, 8, 2>(simd, at),
                    (2, _) => self.columns_at::<S, 4, 2>(simd, at),
                    (3, _) => self.columns_at::<S, 4, 3>(simd, at),
                    (4, _) => self.columns_at::<S, 4, 4>(simd, at),
                    (5, _) => self.columns_at::<S, 4, 5>(simd, at),
                    _ => self.columns_at::<S, 4, 6>(simd, at),
                }
            }
            done += wide;
        }
    }

    /// `V` vectors of columns from `at` on, `R` rows at a time.
    #[inline(always)]
    unsafe fn columns_at<S: Simd, const R: usize, const V: usize>(&self, simd: S, at: usize) {
        let mut row = 0;
        // SAFETY: the tiles lie within C, and as the caller promises.
        unsafe {
            while row + R <= self.rows {
                self.tile::<S, R, V>(simd, row, at);
                row += R;
            }
            while row + 4 <= self.rows {
                self.tile::<S, 4, V>(simd, row, at);
                row += 4;
            }
            while row < self.rows {
                self.tile::<S, 1, V>(simd, row, at);
                row += 1;
            }
        }
    }

    /// `R` rows and `V` vectors of C, all of it in registers.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        row: usize,
        column: usize,
    ) {
        // SAFETY: `R` rows from `row` and `V` vectors from `column` lie within C, so their
        // operands lie within A and B.
        unsafe {
            let c = self.c.add(row * self.c_row + column);
            let mut sums = [[simd.splat(0.0); V]; R];
            if self.add {
                for (r, row) in sums.iter_mut().enumerate() {
                    for (v, sum) in row.iter_mut().enumerate() {
                        *sum = simd.load(c.add(r * self.c_row + v * S::LANES));
                    }
                }
            }
            let mut a = self.a.add(row * self.a_row);
            let mut b = self.b.add(column);
            for _ in 0..self.depth {
                let mut b_row = [simd.splat(0.0); V];
                for (v, vector) in b_row.iter_mut().enumerate() {
                    *vector = simd.load(b.add(v * S::LANES));
                }
                for (r, row) in sums.iter_mut().enumerate() {
                    let factor = simd.splat(*a.add(r * self.a_row));
                    for (sum, &vector) in row.iter_mut().zip(&b_row) {
                        *sum = simd.fma(factor, vector, *sum);
                    }
                }
                a = a.add(self.a_column);
                b = b.add(self.b_row);
            }
            for (r, row) in sums.iter().enumerate() {
                for (v, &sum) in row.iter().enumerate() {
                    simd.store(c.add(r * self.c_row + v * S::LANES), sum);
                }
            }
        }
    }
}
