//! Linear layers: the `gemm` crate's matrix products, which add every element's terms in
//! an order of their own, the same for any number of threads.

use astropt_core::kernels::LinearGradients;
use burn_flex::Flex;
use burn_tensor::Tensor;
use gemm::Parallelism;
use rayon::prelude::*;

use super::pool::Buffer;
use super::tensors::{Dense, tensor};
use super::{gelu, sums};

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

/// Rows per task out of `n`, and how a task's product is spread over threads: what `gemm`
/// makes of a block stays in the second cache, and tasks never wait for each other.
fn blocks(n: usize) -> (usize, Parallelism) {
    if n < 2 * ROWS { (n.max(1), Parallelism::Rayon(0)) } else { (ROWS, Parallelism::None) }
}

/// [`product`] with a row-major `a` of many rows, a block of them per task.
fn product_by_rows([m, k, n]: [usize; 3], a: &[f32], b: Matrix<'_>, out: &mut [f32], add: bool) {
    let (rows, parallelism) = blocks(m);
    let blocks = a.par_chunks(rows * k.max(1)).zip(out.par_chunks_mut(rows * n.max(1)));
    blocks.for_each(|(a, out)| {
        product([out.len() / n, k, n], Matrix::rows(a, k), b, out, add, parallelism);
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
        y.par_chunks_exact_mut(o.max(1)).for_each(|row| row.copy_from_slice(&b));
    }
    product_by_rows([n, i, o], &x, Matrix::rows(&w, i).transposed(), &mut y, add);
    tensor(y, [n, o])
}

/// See [`Kernels::linear_onto`](astropt_core::kernels::Kernels::linear_onto).
pub(super) fn forward_onto(
    x_ni: Tensor<Flex, 2>,
    w_oi: Tensor<Flex, 2>,
    onto_no: Tensor<Flex, 2>,
) -> Tensor<Flex, 2> {
    let ([n, i], [o, _]) = (x_ni.dims(), w_oi.dims());
    let (x, w, onto) = (Dense::new(x_ni), Dense::new(w_oi), Dense::new(onto_no));
    let mut y = Buffer::new(n * o);
    let (rows, parallelism) = blocks(n);
    let w_io = Matrix::rows(&w, i).transposed();
    let inputs = x.par_chunks(rows * i.max(1)).zip(onto.par_chunks(rows * o.max(1)));
    inputs.zip(y.par_chunks_mut(rows * o.max(1))).for_each(|((x, onto), y)| {
        y.copy_from_slice(onto);
        product([y.len() / o, i, o], Matrix::rows(x, i), w_io, y, true, parallelism);
    });
    tensor(y, [n, o])
}

/// See [`Kernels::linear_gelu`](astropt_core::kernels::Kernels::linear_gelu).
pub(super) fn forward_gelu(x_ni: Tensor<Flex, 2>, w_oi: Tensor<Flex, 2>) -> [Tensor<Flex, 2>; 2] {
    let ([n, i], [o, _]) = (x_ni.dims(), w_oi.dims());
    let (x, w) = (Dense::new(x_ni), Dense::new(w_oi));
    let (mut wide, mut y) = (Buffer::new(n * o), Buffer::new(n * o));
    let (rows, parallelism) = blocks(n);
    let w_io = Matrix::rows(&w, i).transposed();
    let outputs = wide.par_chunks_mut(rows * o.max(1)).zip(y.par_chunks_mut(rows * o.max(1)));
    x.par_chunks(rows * i.max(1)).zip(outputs).for_each(|(x, (wide, y))| {
        product([wide.len() / o, i, o], Matrix::rows(x, i), w_io, wide, false, parallelism);
        gelu::of_block(wide, y);
    });
    [tensor(wide, [n, o]), tensor(y, [n, o])]
}

/// See [`Kernels::gelu_linear_backward`](astropt_core::kernels::Kernels::gelu_linear_backward).
pub(super) fn gelu_backward(
    wide_ni: Tensor<Flex, 2>,
    gelu_ni: Tensor<Flex, 2>,
    w_oi: Tensor<Flex, 2>,
    dy_no: Tensor<Flex, 2>,
) -> [Tensor<Flex, 2>; 2] {
    let ([n, i], [o, _]) = (wide_ni.dims(), w_oi.dims());
    let (w, dy) = (Dense::new(w_oi), Dense::new(dy_no));
    let dw = weight_gradient(&dy, &Dense::new(gelu_ni), [n, i, o]);
    let wide = Dense::new(wide_ni);
    let mut dwide = Buffer::new(n * i);
    let (rows, parallelism) = blocks(n);
    let inputs = dy.par_chunks(rows * o.max(1)).zip(wide.par_chunks(rows * i.max(1)));
    inputs.zip(dwide.par_chunks_mut(rows * i.max(1))).for_each(|((dy, wide), dwide)| {
        let shape = [dwide.len() / i, o, i];
        product(shape, Matrix::rows(dy, o), Matrix::rows(&w, i), dwide, false, parallelism);
        gelu::backward_of_block(wide, dwide);
    });
    [tensor(dwide, [n, i]), dw]
}

/// `[o, i]`: dyᵀ·x.
fn weight_gradient(dy: &[f32], x: &[f32], [n, i, o]: [usize; 3]) -> Tensor<Flex, 2> {
    let mut dw = Buffer::new(o * i);
    let (dy_on, x_ni) = (Matrix::rows(dy, o).transposed(), Matrix::rows(x, i));
    product([o, n, i], dy_on, x_ni, &mut dw, false, Parallelism::Rayon(0));
    tensor(dw, [o, i])
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
    LinearGradients {
        dx_ni,
        dw_oi: weight_gradient(&dy, &x, [n, i, o]),
        db_o: bias.then(|| tensor(sums::of_rows(&dy, o), [o])),
    }
}
