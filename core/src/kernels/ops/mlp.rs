//! Two linear layers with a GELU between, as one node: leave(gelu(enter(x))), and with a
//! norm the other half of a block: x + leave(gelu(enter(norm(x)))).

use std::marker::PhantomData;

use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_tensor::{Tensor, backend::Backend};

use super::{DiffTensor, primitive, typed};
use crate::kernels::{Differentiated, Kernels, Normalised, Platform};

/// Parameters of a multilayer perceptron.
#[derive(Clone, Debug)]
pub struct MlpLayer<B: Backend> {
    /// Gain of the norm before it, and the norm's epsilon: of a residual branch.
    pub norm: Option<(Tensor<B, 1>, f32)>,
    /// To the hidden layer.
    pub enter_fi: Tensor<B, 2>,
    /// From the hidden layer.
    pub leave_of: Tensor<B, 2>,
}

/// What forward makes and backward needs.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    normal: Option<Normalised<B>>,
    wide_nf: Tensor<B, 2>,
    gelu_nf: Tensor<B, 2>,
}

fn widen<P: Platform>(
    x_ni: Tensor<P::Backend, 2>,
    layer: &MlpLayer<P::Backend>,
) -> Kept<P::Backend> {
    let norm = layer.norm.clone();
    let normal = norm.map(|(gain_d, eps)| P::Kernels::layer_norm_within(x_ni.clone(), gain_d, eps));
    let entering_ni = normal.as_ref().map_or(x_ni, |normal| normal.y_nd.clone());
    let [wide_nf, gelu_nf] = P::Kernels::linear_gelu(entering_ni, layer.enter_fi.clone());
    Kept { normal, wide_nf, gelu_nf }
}

#[derive(Debug)]
struct MlpOp<P>(PhantomData<P>);

#[derive(Clone, Debug)]
struct State<B: Backend> {
    x_ni: Tensor<B, 2>,
    layer: MlpLayer<B>,
    kept: Option<Kept<B>>,
}

/// The parents are the input, the weights in and out, and (N = 4) the gain.
impl<P: Platform, const N: usize> Backward<P::Backend, N> for MlpOp<P> {
    type State = State<P::Backend>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy_no: Tensor<P::Backend, 2> = typed(grads.consume::<P::Backend>(&ops.node));
        let State { x_ni, layer, kept } = ops.state;
        let kept = kept.unwrap_or_else(|| widen::<P>(x_ni.clone(), &layer));
        let [dwide_nf, dleave_of] = P::Kernels::gelu_linear_backward(
            kept.wide_nf,
            kept.gelu_nf,
            layer.leave_of,
            dy_no.clone(),
        );
        let (dx_ni, denter_fi, dgain_d) = match (layer.norm, kept.normal) {
            (Some((gain_d, _)), Some(Normalised { y_nd, mean_n, rstd_n })) => {
                let [dnormal_ni, denter_fi] =
                    P::Kernels::linear_backward_within(y_nd, layer.enter_fi, dwide_nf);
                let (dx_ni, dgain_d) = P::Kernels::layer_norm_backward(
                    x_ni,
                    gain_d,
                    mean_n,
                    rstd_n,
                    dnormal_ni,
                    Some(dy_no),
                );
                (Some(dx_ni), denter_fi, Some(dgain_d))
            }
            _ => {
                let input = ops.parents[0].is_some();
                let enter =
                    P::Kernels::linear_backward(x_ni, layer.enter_fi, dwide_nf, input, false);
                (enter.dx_ni, enter.dw_oi, None)
            }
        };
        let found = [
            dx_ni.map(primitive),
            Some(primitive(denter_fi)),
            Some(primitive(dleave_of)),
            dgain_d.map(primitive),
        ];
        for (node, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<P::Backend>(node.id, gradient);
            }
        }
    }
}

/// A perceptron; with a norm, on top of its input. With `recompute` backward runs forward
/// again instead of keeping what forward made.
pub fn mlp<P: Platform>(
    x_ni: DiffTensor<P, 2>,
    layer: MlpLayer<Differentiated<P>>,
    recompute: bool,
) -> DiffTensor<P, 2> {
    let x = primitive(x_ni);
    let [enter, leave] = [primitive(layer.enter_fi), primitive(layer.leave_of)];
    let norm = layer.norm.map(|(gain_d, eps)| (primitive(gain_d), eps));
    let layer = MlpLayer {
        norm: norm.as_ref().map(|(gain, eps)| (typed(gain.primitive.clone()), *eps)),
        enter_fi: typed(enter.primitive),
        leave_of: typed(leave.primitive),
    };
    let x_ni: Tensor<P::Backend, 2> = typed(x.primitive);
    let kept = widen::<P>(x_ni.clone(), &layer);
    let (gelu_nf, leave_of) = (kept.gelu_nf.clone(), layer.leave_of.clone());
    let y_no = primitive(match norm {
        Some(_) => P::Kernels::linear_onto(gelu_nf, leave_of, x_ni.clone()),
        None => P::Kernels::linear(gelu_nf, leave_of, None),
    });
    let state = State { x_ni, layer, kept: (!recompute).then_some(kept) };
    let op = MlpOp::<P>(PhantomData);
    match norm {
        Some((gain, _)) => finish!(op, [x.node, enter.node, leave.node, gain.node], state, y_no),
        None => finish!(op, [x.node, enter.node, leave.node], state, y_no),
    }
}
