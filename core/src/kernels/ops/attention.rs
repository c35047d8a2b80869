//! The attention half of a block as one node: x + leave(attend(enter(norm(x)))).

use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_tensor::{Tensor, backend::Backend};

use super::{DiffTensor, primitive, typed};
use crate::kernels::{Attended, AttentionMask, Differentiated, Kernels, Normalised, Platform};

/// Parameters of the attention half of a block.
#[derive(Clone, Debug)]
pub struct AttentionLayer<B: Backend> {
    /// Gain of the norm before it.
    pub gain_d: Tensor<B, 1>,
    /// To queries, keys and values (e = 3 d).
    pub enter_ed: Tensor<B, 2>,
    /// Back to the residual stream.
    pub leave_dd: Tensor<B, 2>,
}

impl<B: Backend> AttentionLayer<B> {
    /// The norm of `x_nd`, and its queries, keys and values `[n, 3 d]`.
    pub fn project<K: Kernels<B>>(
        &self,
        x_nd: Tensor<B, 2>,
        eps: f32,
    ) -> (Normalised<B>, Tensor<B, 2>) {
        let normal = K::layer_norm_within(x_nd, self.gain_d.clone(), eps);
        let qkv_ne = K::linear_within(normal.y_nd.clone(), self.enter_ed.clone());
        (normal, qkv_ne)
    }
}

/// How the rows of a batch attend, and what is kept of it for backward.
#[derive(Clone, Debug)]
pub struct AttentionSettings<B: Backend> {
    /// Number of heads.
    pub heads: usize,
    /// Which tokens see which.
    pub mask: AttentionMask<B>,
    /// Epsilon of the norm.
    pub eps: f32,
    /// Whether backward runs forward again instead of keeping what forward made.
    pub recompute: bool,
}

/// What forward makes and backward needs.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    normal: Normalised<B>,
    qkv_bte: Tensor<B, 3>,
    attended: Attended<B>,
}

fn attend<P: Platform>(
    x_nd: Tensor<P::Backend, 2>,
    rows: usize,
    layer: &AttentionLayer<P::Backend>,
    settings: &AttentionSettings<P::Backend>,
) -> Kept<P::Backend> {
    let [n, _] = x_nd.dims();
    let (normal, qkv_ne) = layer.project::<P::Kernels>(x_nd, settings.eps);
    let e = qkv_ne.dims()[1];
    let qkv_bte = qkv_ne.reshape([rows, n / rows, e]);
    let attended = P::Kernels::attention(qkv_bte.clone(), settings.heads, &settings.mask);
    Kept { normal, qkv_bte, attended }
}

#[derive(Debug)]
struct AttentionOp<P: Platform> {
    rows: usize,
    settings: AttentionSettings<P::Backend>,
}

#[derive(Clone, Debug)]
struct State<B: Backend> {
    x_nd: Tensor<B, 2>,
    layer: AttentionLayer<B>,
    kept: Option<Kept<B>>,
}

/// The parents are the input, the gain, and the weights in and out.
impl<P: Platform> Backward<P::Backend, 4> for AttentionOp<P> {
    type State = State<P::Backend>;

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy_nd: Tensor<P::Backend, 2> = typed(grads.consume::<P::Backend>(&ops.node));
        let State { x_nd, layer, kept } = ops.state;
        let kept =
            kept.unwrap_or_else(|| attend::<P>(x_nd.clone(), self.rows, &layer, &self.settings));
        let [n, d] = x_nd.dims();
        let out_nd = kept.attended.out_btd.clone().reshape([n, d]);
        let [dout_nd, dleave_dd] =
            P::Kernels::linear_backward_within(out_nd, layer.leave_dd, dy_nd.clone());
        let dqkv_bte = P::Kernels::attention_backward(
            kept.qkv_bte,
            kept.attended,
            dout_nd.reshape([self.rows, n / self.rows, d]),
            self.settings.heads,
            &self.settings.mask,
        );
        let Normalised { y_nd, mean_n, rstd_n } = kept.normal;
        let dqkv_ne = dqkv_bte.reshape([n, 3 * d]);
        let [dnormal_nd, denter_ed] =
            P::Kernels::linear_backward_within(y_nd, layer.enter_ed, dqkv_ne);
        let (dx_nd, dgain_d) = P::Kernels::layer_norm_backward(
            x_nd,
            layer.gain_d,
            mean_n,
            rstd_n,
            dnormal_nd,
            Some(dy_nd),
        );
        let found =
            [primitive(dx_nd), primitive(dgain_d), primitive(denter_ed), primitive(dleave_dd)];
        for (node, gradient) in ops.parents.into_iter().zip(found) {
            if let Some(node) = node {
                grads.register::<P::Backend>(node.id, gradient);
            }
        }
    }
}

/// The attention half of a block, on `rows` rows of equal length one after the other.
pub fn attention<P: Platform>(
    x_nd: DiffTensor<P, 2>,
    rows: usize,
    layer: AttentionLayer<Differentiated<P>>,
    settings: &AttentionSettings<P::Backend>,
) -> DiffTensor<P, 2> {
    let x = primitive(x_nd);
    let [gain, enter, leave] =
        [primitive(layer.gain_d), primitive(layer.enter_ed), primitive(layer.leave_dd)];
    let layer = AttentionLayer {
        gain_d: typed(gain.primitive),
        enter_ed: typed(enter.primitive),
        leave_dd: typed(leave.primitive),
    };
    let x_nd: Tensor<P::Backend, 2> = typed(x.primitive);
    let [n, d] = x_nd.dims();
    let kept = attend::<P>(x_nd.clone(), rows, &layer, settings);
    let out_nd = kept.attended.out_btd.clone().reshape([n, d]);
    let y_nd = P::Kernels::linear_onto(out_nd, layer.leave_dd.clone(), x_nd.clone());
    let op = AttentionOp::<P> { rows, settings: settings.clone() };
    let state = State { x_nd, layer, kept: (!settings.recompute).then_some(kept) };
    finish!(op, [x.node, gain.node, enter.node, leave.node], state, primitive(y_nd))
}
