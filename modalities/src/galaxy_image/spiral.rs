//! The order in which the patches of a square grid are read.

use super::Orientation;

/// The patches of a `side` x `side` grid from the centre out: entry k is
/// `row * side + column` of token k's patch.
///
/// [`Orientation::Astropt`] winds back from the top-left corner, where it ends: along the
/// top row, down the right column, and inwards. [`Orientation::Figure1`] is the same turned
/// by 180 degrees, as figure 1 of the paper draws it: it ends bottom-right.
pub fn spiral(side: usize, orientation: Orientation) -> Vec<usize> {
    let mut order = inward(side);
    order.reverse();
    if orientation == Orientation::Figure1 {
        // A turn by 180 degrees maps (row, column) to (side - 1 - row, side - 1 - column).
        for patch in &mut order {
            *patch = side * side - 1 - *patch;
        }
    }
    order
}

/// Where the spiral begins to and where it ends, and whose it is. On a grid of odd sides that of the
/// figure begins to the right and up, as drawn there, and ends bottom-right; on one of even sides,
/// as the paper's, it cannot do both, and what is kept is the end.
pub(super) fn in_words(side: usize, orientation: Orientation) -> String {
    let (begins, ends) = match (orientation, side % 2) {
        (Orientation::Astropt, 0) => ("to the right and up", "top-left"),
        (Orientation::Astropt, _) => ("to the left and down", "top-left"),
        (Orientation::Figure1, 0) => ("to the left and down", "bottom-right"),
        (Orientation::Figure1, _) => ("to the right and up", "bottom-right"),
    };
    let (of, other) = match orientation {
        Orientation::Astropt => ("as the paper's program has it", "the paper's Figure 1 ends"),
        Orientation::Figure1 => ("with the end of the paper's Figure 1", "its program's ends"),
    };
    let far = if orientation == Orientation::Astropt { "bottom-right" } else { "top-left" };
    format!(
        "a spiral from the centre out that begins {begins} and ends {ends}, {of}; {other} {far}, \
         turned by 180 degrees"
    )
}

/// Clockwise from the top-left corner to the centre, ring by ring.
fn inward(side: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(side * side);
    for ring in 0..side.div_ceil(2) {
        let last = side - 1 - ring;
        if ring == last {
            order.push(ring * side + ring);
            break;
        }
        order.extend((ring..last).map(|column| ring * side + column));
        order.extend((ring..last).map(|row| row * side + last));
        order.extend((ring + 1..=last).rev().map(|column| last * side + column));
        order.extend((ring + 1..=last).rev().map(|row| row * side + ring));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_once_and_each_beside_the_one_before() {
        for side in 1..=40 {
            for orientation in [Orientation::Astropt, Orientation::Figure1] {
                let order = spiral(side, orientation);
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..side * side).collect::<Vec<_>>(), "{side}");
                for pair in order.windows(2) {
                    let (a, b) = (pair[0], pair[1]);
                    let steps = (a / side).abs_diff(b / side) + (a % side).abs_diff(b % side);
                    assert_eq!(steps, 1, "{side}: {a} then {b}");
                }
            }
        }
    }

    #[test]
    fn words_are_those_of_the_order() {
        for side in [5, 8, 32, 33] {
            for orientation in [Orientation::Astropt, Orientation::Figure1] {
                let (order, words) = (spiral(side, orientation), in_words(side, orientation));
                let right = order[1] == order[0] + 1;
                assert_eq!(words.contains("begins to the right and up"), right, "{side}");
                assert_eq!(order[2] + side == order[1], right, "{side}");
                let last = order[side * side - 1];
                let ends = if last == 0 { "ends top-left, " } else { "ends bottom-right, " };
                assert!(words.contains(ends) && [0, side * side - 1].contains(&last), "{words}");
            }
        }
    }

    #[test]
    fn figure_1_starts_right_and_up_and_ends_bottom_right() {
        let order = spiral(5, Orientation::Figure1);
        assert_eq!(order[..3], [12, 13, 8]);
        assert_eq!(order[24], 24);
    }

    #[test]
    fn the_paper_grid_starts_at_row_16_column_15() {
        let order = spiral(32, Orientation::Astropt);
        assert_eq!(order[..3], [16 * 32 + 15, 16 * 32 + 16, 15 * 32 + 16]);
        assert_eq!(order[1023], 0);
    }
}
