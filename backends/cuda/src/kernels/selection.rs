//! The gradient of a selection of rows: for each row the sum of what came back from where it was
//! taken to, in a fixed order.
//!
//! Burn's own has a unit by column, which adds one row after the other. Here the indices are put in
//! order first: the place of each is the count of those before it, which are less, or equal and come
//! earlier. That is k² comparisons of k indices, of a few instructions each; it takes neither atomics
//! nor room. Then runs of places are added up side by side, and the runs of a row: a row that is taken
//! often costs little more than others.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::tensors::{UNITS, cube, lengths, room, room_of, units};

/// Places that a unit adds up one after the other.
const RUN: usize = 64;

/// Unit by index: puts it, and its number, where it stands in order.
#[cube(launch)]
fn order_kernel(indices_k: &Array<i32>, sorted_k: &mut Array<i32>, order_k: &mut Array<i32>) {
    let mut shared = SharedMemory::<i32>::new(UNITS);
    let unit = UNIT_POS as usize;
    let own = ABSOLUTE_POS;
    let tile = own - unit;
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
        if from == tile {
            for k in 0..to {
                let other = shared[k];
                if other < index || (other == index && k < unit) {
                    place += 1;
                }
            }
        } else {
            // Before its own tile equals count, after it they do not.
            let mut bound = index;
            if from < tile {
                bound += 1;
            }
            for k in 0..to {
                if shared[k] < bound {
                    place += 1;
                }
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

/// Unit by column of a run of places: the sums of what came back to the rows that it holds places of,
/// each put at the first of these places.
#[cube(launch)]
fn runs_kernel(
    dy_kd: &Array<f32>,
    sorted_k: &Array<i32>,
    order_k: &Array<i32>,
    sums_kd: &mut Array<f32>,
    d: usize,
) {
    let column = ABSOLUTE_POS % d;
    let first = ABSOLUTE_POS / d * RUN;
    let count = sorted_k.len();
    if first < count {
        let mut end = first + RUN;
        if end > count {
            end = count;
        }
        let mut at = first;
        let mut sum = 0.0f32;
        for place in first..end {
            if sorted_k[place] != sorted_k[at] {
                sums_kd[at * d + column] = sum;
                sum = 0.0f32;
                at = place;
            }
            sum += dy_kd[order_k[place] as usize * d + column];
        }
        sums_kd[at * d + column] = sum;
    }
}

/// Unit by number of a row: the sum over the runs that hold places of the row.
#[cube(launch)]
fn rows_kernel(sums_kd: &Array<f32>, starts_r: &Array<i32>, dx_rd: &mut Array<f32>, d: usize) {
    let own = ABSOLUTE_POS;
    if own < dx_rd.len() {
        let row = own / d;
        let mut at = starts_r[row] as usize;
        let end = starts_r[row + 1] as usize;
        let mut sum = 0.0f32;
        while at < end {
            sum += sums_kd[at * d + own % d];
            at = (at / RUN + 1) * RUN;
        }
        dx_rd[own] = sum;
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
    let (sums_kd, dx_rd) = (room(&dy_kd, [count, d]), room(&dy_kd, [rows, d]));
    order_kernel::launch::<R>(
        &client,
        units(count),
        cube(),
        indices_k.into_array_arg(),
        sorted_k.clone().into_array_arg(),
        order_k.clone().into_array_arg(),
    );
    let (sorted, starts) = (sorted_k.clone().into_array_arg(), starts_r.clone().into_array_arg());
    starts_kernel::launch::<R>(&client, units(rows + 1), cube(), sorted, starts);
    runs_kernel::launch::<R>(
        &client,
        units(count.div_ceil(RUN) * d),
        cube(),
        dy_kd.into_array_arg(),
        sorted_k.into_array_arg(),
        order_k.into_array_arg(),
        sums_kd.clone().into_array_arg(),
        d,
    );
    rows_kernel::launch::<R>(
        &client,
        units(rows * d),
        cube(),
        sums_kd.into_array_arg(),
        starts_r.into_array_arg(),
        dx_rd.clone().into_array_arg(),
        d,
    );
    dx_rd
}
