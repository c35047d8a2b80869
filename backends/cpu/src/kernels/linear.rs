//! Linear layers: the `gemm` crate's matrix products, which add every element's terms in
//! an order of their own, the same for any number of threads.

use astropt_core::kernels::LinearGradients;
use burn_flex::Flex;
use burn_tensor::Tensor;
use gemm::Parallelism;
use rayon::prelude::*;

use super::pool::Buffer;
use super::sums;
use super::tensors::{Dense, tensor};

/// Rows per task.
const ROWS: usize = 512;

/// A matrix as its first number and the distances between columns and rows.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    data: &'a [f32],
    column: isize,
    row: isize,
}

impl<'a> Matrix<'a> {
    /// Row-major, `width` numbers per row.
    fn rows(data: &'a [f32], width: usize) -> Self {
        Self { data, column: 1, row: width as isize }
    }

    fn transposed(self) -> Self {
        Self { column: self.row, row: self.column, ..self }
    }
}

/// `out[m, n] = a[m, k]·b[k, n]`, plus what is in `out` when `add`.
fn product(
    [m, k, n]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    out: &mut [f32],
    add: bool,
    parallelism: Parallelism,
) {
    assert_eq!([a.data.len(), b.data.len(), out.len()], [m * k, k * n, m * n]);
    // SAFETY: the three matrices have these shapes, just checked, and strides that only
    // order their elements; `out` is exclusively borrowed.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.data.as_ptr(),
            a.column,
            a.row,
            b.data.as_ptr(),
            b.column,
            b.row,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// [`product`] with a row-major `a` of many rows, a block of them per task: what `gemm` makes
/// of a block stays in the second cache, and tasks never wait for each other.
fn product_by_rows([m, k, n]: [usize; 3], a: &[f32], b: Matrix<'_>, out: &mut [f32], add: bool) {
    if m < 2 * ROWS {
        return product([m, k, n], Matrix::rows(a, k), b, out, add, Parallelism::Rayon(0));
    }
    let blocks = a.par_chunks(ROWS * k.max(1)).zip(out.par_chunks_mut(ROWS * n.max(1)));
    blocks.for_each(|(a, out)| {
        let shape = [out.len() / n, k, n];
        product(shape, Matrix::rows(a, k), b, out, add, Parallelism::None);
    });
}

/// See [`Kernels::linear`](astropt_core::kernels::Kernels::linear).
pub(super) fn forward(
    x_ni: Tensor<Flex, 2>,
    w_oi: Tensor<Flex, 2>,
    b_o: Option<Tensor<Flex, 1>>,
) -> Tensor<Flex, 2> {
    let ([n, i], [o, _]) = (x_ni.dims(), w_oi.dims());
    let (x, w) = (Dense::new(x_ni), Dense::new(w_oi));
    let mut y = Buffer::new(n * o);
    let add = b_o.is_some();
    if let Some(b_o) = b_o {
        let b = Dense::new(b_o);
        y.chunks_exact_mut(o.max(1)).for_each(|row| row.copy_from_slice(&b));
    }
    product_by_rows([n, i, o], &x, Matrix::rows(&w, i).transposed(), &mut y, add);
    tensor(y, [n, o])
}

/// See [`Kernels::linear_backward`](astropt_core::kernels::Kernels::linear_backward).
pub(super) fn backward(
    x_ni: Tensor<Flex, 2>,
    w_oi: Tensor<Flex, 2>,
    dy_no: Tensor<Flex, 2>,
    input: bool,
    bias: bool,
) -> LinearGradients<Flex> {
    let ([n, i], [o, _]) = (x_ni.dims(), w_oi.dims());
    let (x, w, dy) = (Dense::new(x_ni), Dense::new(w_oi), Dense::new(dy_no));
    let dx_ni = input.then(|| {
        let mut dx = Buffer::new(n * i);
        product_by_rows([n, o, i], &dy, Matrix::rows(&w, i), &mut dx, false);
        tensor(dx, [n, i])
    });
    let mut dw = Buffer::new(o * i);
    let (dy_on, x_rows) = (Matrix::rows(&dy, o).transposed(), Matrix::rows(&x, i));
    product([o, n, i], dy_on, x_rows, &mut dw, false, Parallelism::Rayon(0));
    LinearGradients {
        dx_ni,
        dw_oi: tensor(dw, [o, i]),
        db_o: bias.then(|| tensor(sums::of_rows(&dy, o), [o])),
    }
}
