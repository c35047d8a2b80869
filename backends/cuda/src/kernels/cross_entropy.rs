//! Cross-entropy of codes, forward and gradient at once.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::sums::{largest_of_cube, sum_of_cube, total};
use super::tensors::{UNITS, cube, cubes, lengths, room};

/// Cube by row: the row's loss, and its gradient.
#[cube(launch)]
fn cross_entropy_kernel(
    logits_kv: &Array<f32>,
    codes_k: &Array<i32>,
    dlogits_kv: &mut Array<f32>,
    losses_k: &mut Array<f32>,
    v: usize,
    weight: f32,
    lowest: f32,
) {
    let mut shared = SharedMemory::<f32>::new(UNITS);
    let row = CUBE_POS;
    let step = CUBE_DIM as usize;
    let mut largest = lowest;
    let mut k = UNIT_POS as usize;
    while k < v {
        let logit = logits_kv[row * v + k];
        if logit > largest {
            largest = logit;
        }
        k += step;
    }
    let largest = largest_of_cube(largest, &mut shared);
    let mut sum = 0.0f32;
    k = UNIT_POS as usize;
    while k < v {
        sum += f32::exp(logits_kv[row * v + k] - largest);
        k += step;
    }
    let sum = sum_of_cube(sum, &mut shared);
    if row < losses_k.len() {
        let code = codes_k[row] as usize;
        k = UNIT_POS as usize;
        while k < v {
            let mut slope = f32::exp(logits_kv[row * v + k] - largest) / sum;
            if k == code {
                slope -= 1.0;
            }
            dlogits_kv[row * v + k] = slope * weight;
            k += step;
        }
        if UNIT_POS == 0 {
            // In this order: of a code that is all but sure, little is left.
            losses_k[row] = (largest - logits_kv[row * v + code]) + f32::ln(sum);
        }
    }
}

/// See [`Kernels::cross_entropy`](astropt_core::kernels::Kernels::cross_entropy): the loss, and the
/// gradient for the logits.
pub(super) fn cross_entropy<R: CubeRuntime>(
    logits_kv: CubeTensor<R>,
    codes_k: CubeTensor<R>,
) -> [CubeTensor<R>; 2] {
    let [rows, v] = lengths(&logits_kv);
    let (dlogits_kv, losses_k) = (room(&logits_kv, [rows, v]), room(&logits_kv, [rows]));
    let weight = 1.0 / rows as f32;
    cross_entropy_kernel::launch::<R>(
        &logits_kv.client.clone(),
        cubes(rows),
        cube(),
        logits_kv.into_array_arg(),
        codes_k.into_array_arg(),
        dlogits_kv.clone().into_array_arg(),
        losses_k.clone().into_array_arg(),
        v,
        weight,
        f32::MIN,
    );
    [total(losses_k, weight, false), dlogits_kv]
}
