//! The gradient of a selection of rows: for each row the sum of what came back from where it was
//! taken to, in the order of the indices.
//!
//! Burn's own has a unit by column, which adds one row after the other. Here the indices are put in
//! order first: the place of each is the count of those before it, which are less, or equal and come
//! earlier. That is k² comparisons of k indices, but each costs next to nothing, and neither atomics
//! nor room is needed for it.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::tensors::{UNITS, cube, cubes, lengths, room, room_of, units};

/// Unit by index: puts it, and its number, where it stands in order.
#[cube(launch)]
fn order_kernel(indices_k: &Array<i32>, sorted_k: &mut Array<i32>, order_k: &mut Array<i32>) {
    let mut shared = SharedMemory::<i32>::new(UNITS);
    let unit = UNIT_POS as usize;
    let own = ABSOLUTE_POS;
    let count = indices_k.len();
    let mut index = 0i32;
    if own < count {
        index = indices_k[own];
    }
    let mut place = 0usize;
    let mut from = 0usize;
    while from < count {
        if from + unit < count {
            shared[unit] = indices_k[from + unit];
        }
        sync_cube();
        let mut to = count - from;
        if to > UNITS {
            to = CUBE_DIM as usize;
        }
        for k in 0..to {
            let other = shared[k];
            if other < index || (other == index && from + k < own) {
                place += 1;
            }
        }
        sync_cube();
        from += UNITS;
    }
    if own < count {
        sorted_k[place] = index;
        order_k[place] = own as i32;
    }
}

/// Unit by row, and one for their end: the first place whose index is no less.
#[cube(launch)]
fn starts_kernel(sorted_k: &Array<i32>, starts_r: &mut Array<i32>) {
    let row = ABSOLUTE_POS;
    if row < starts_r.len() {
        let mut low = 0usize;
        let mut high = sorted_k.len();
        while low < high {
            let middle = (low + high) / 2;
            if (sorted_k[middle] as usize) < row {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        starts_r[row] = low as i32;
    }
}

/// Cube by row: the sum of the rows that were taken from it.
#[cube(launch)]
fn sums_kernel(
    dy_kd: &Array<f32>,
    order_k: &Array<i32>,
    starts_r: &Array<i32>,
    dx_rd: &mut Array<f32>,
    d: usize,
) {
    let row = CUBE_POS;
    if row + 1 < starts_r.len() {
        let (from, to) = (starts_r[row] as usize, starts_r[row + 1] as usize);
        let mut column = UNIT_POS as usize;
        while column < d {
            let mut sum = 0.0f32;
            for place in from..to {
                sum += dy_kd[order_k[place] as usize * d + column];
            }
            dx_rd[row * d + column] = sum;
            column += CUBE_DIM as usize;
        }
    }
}

/// See [`Kernels::select_backward`](astropt_core::kernels::Kernels::select_backward): the gradient
/// for `rows` rows of what the rows of `dy_kd` were selected from by `indices_k`.
pub(super) fn backward<R: CubeRuntime>(
    rows: usize,
    indices_k: CubeTensor<R>,
    dy_kd: CubeTensor<R>,
) -> CubeTensor<R> {
    let [count, d] = lengths(&dy_kd);
    let client = dy_kd.client.clone();
    let integers = |length: usize| room_of(&dy_kd, [length], indices_k.dtype);
    let (sorted_k, order_k, starts_r) = (integers(count), integers(count), integers(rows + 1));
    let dx_rd = room(&dy_kd, [rows, d]);
    order_kernel::launch::<R>(
        &client,
        units(count),
        cube(),
        indices_k.into_array_arg(),
        sorted_k.clone().into_array_arg(),
        order_k.clone().into_array_arg(),
    );
    let (sorted_k, starts) = (sorted_k.into_array_arg(), starts_r.clone().into_array_arg());
    starts_kernel::launch::<R>(&client, units(rows + 1), cube(), sorted_k, starts);
    sums_kernel::launch::<R>(
        &client,
        cubes(rows),
        cube(),
        dy_kd.into_array_arg(),
        order_k.into_array_arg(),
        starts_r.into_array_arg(),
        dx_rd.clone().into_array_arg(),
        d,
    );
    dx_rd
}
