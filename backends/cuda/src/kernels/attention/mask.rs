//! Which tokens see which, as kernels take it.

use astropt_core::kernels::AttentionMask;
use burn_backend::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, IntElement};
use burn_tensor::Tensor;

use crate::kernels::tensors::{dense_int, room_of};

/// What of a mask a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rules {
    pub(super) causal: bool,
    pub(super) documents: bool,
    pub(super) reach: bool,
}

impl Rules {
    /// Whether no token sees a later one.
    pub(super) fn backwards_only(self) -> bool {
        self.causal && !self.reach
    }
}

/// Whether token `query` sees token `key` of a row, whose first token is number `row` of all.
#[cube]
pub(super) fn visible(
    query: usize,
    key: usize,
    row: usize,
    documents_bt: &Array<i32>,
    reach_bt: &Array<i32>,
    #[comptime] rules: Rules,
) -> bool {
    let mut visible = true.runtime();
    if comptime![rules.causal] {
        visible = key <= query;
        if comptime![rules.reach] {
            visible = visible || key < usize::cast_from(reach_bt[row + query]);
        }
    }
    if comptime![rules.documents] {
        visible = visible && documents_bt[row + query] == documents_bt[row + key];
    }
    visible
}

/// A mask as kernels take it, for tensors beside `of`.
pub(super) struct Mask<R: CubeRuntime> {
    pub(super) documents_bt: CubeTensor<R>,
    pub(super) reach_bt: CubeTensor<R>,
    pub(super) rules: Rules,
    /// Heads, tokens, and numbers of a head.
    pub(super) heads: usize,
    pub(super) tokens: usize,
    pub(super) size: usize,
    /// What scores are multiplied with.
    pub(super) scale: f32,
}

impl<R: CubeRuntime> Mask<R> {
    pub(super) fn new<I: IntElement, BT: BoolElement>(
        mask: &AttentionMask<CubeBackend<R, f32, I, BT>>,
        of: &CubeTensor<R>,
        [heads, tokens, size]: [usize; 3],
    ) -> Self {
        let numbers = |tensor: &Option<Tensor<_, 2, burn_tensor::Int>>| match tensor {
            // Nothing is read of what stands in for it.
            None => room_of(of, [1], DType::I32),
            Some(tensor) => dense_int(tensor.clone()),
        };
        Self {
            documents_bt: numbers(&mask.documents_bt),
            reach_bt: numbers(&mask.reach_bt),
            rules: Rules {
                causal: mask.causal,
                documents: mask.documents_bt.is_some(),
                reach: mask.reach_bt.is_some(),
            },
            heads,
            tokens,
            size,
            scale: 1.0 / (size as f32).sqrt(),
        }
    }
}
