//! The kernels as differentiable operations: each is one node of the autodiff graph that
//! keeps what its backward kernel needs and nothing else.

use std::marker::PhantomData;

use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_backend::tensor::FloatTensor;
use burn_tensor::{Int, Tensor, TensorPrimitive, backend::Backend};

use super::{Differentiated, Kernels, Normalised, Platform};

type Primitive<P> = FloatTensor<<P as Platform>::Backend>;
type DiffTensor<P, const D: usize> = Tensor<Differentiated<P>, D>;

fn typed<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// Registers `$op` over the parent nodes: `state` is kept for backward when one of the
/// parents is differentiated.
macro_rules! finish {
    ($op:expr, $nodes:expr, $state:expr, $output:expr) => {
        typed(match $op.prepare::<NoCheckpointing>($nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish($state, $output),
            OpsKind::UnTracked(prep) => prep.finish($output),
        })
    };
}

mod attention;
mod mlp;

pub use attention::{AttentionLayer, AttentionSettings, attention};
pub use mlp::{MlpLayer, mlp};

#[derive(Debug)]
struct LinearOp<P>(PhantomData<P>);

/// N = 2: input and weight; N = 3: and bias.
impl<P: Platform, const N: usize> Backward<P::Backend, N> for LinearOp<P> {
    type State = (Primitive<P>, Primitive<P>);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy_no = typed(grads.consume::<P::Backend>(&ops.node));
        let (x_ni, w_oi) = ops.state;
        let parent = |k: usize| ops.parents.get(k).and_then(Option::as_ref);
        let result = P::Kernels::linear_backward(
            typed(x_ni),
            typed(w_oi),
            dy_no,
            parent(0).is_some(),
            parent(2).is_some(),
        );
        if let (Some(node), Some(dx_ni)) = (parent(0), result.dx_ni) {
            grads.register::<P::Backend>(node.id, primitive(dx_ni));
        }
        if let Some(node) = parent(1) {
            grads.register::<P::Backend>(node.id, primitive(result.dw_oi));
        }
        if let (Some(node), Some(db_o)) = (parent(2), result.db_o) {
            grads.register::<P::Backend>(node.id, primitive(db_o));
        }
    }
}

/// Differentiable [`Kernels::linear`].
pub fn linear<P: Platform>(
    x_ni: DiffTensor<P, 2>,
    w_oi: DiffTensor<P, 2>,
    b_o: Option<DiffTensor<P, 1>>,
) -> DiffTensor<P, 2> {
    let (x, w, b) = (primitive(x_ni), primitive(w_oi), b_o.map(primitive));
    let output = primitive(P::Kernels::linear(
        typed(x.primitive.clone()),
        typed(w.primitive.clone()),
        b.as_ref().map(|b| typed(b.primitive.clone())),
    ));
    let state = (x.primitive, w.primitive);
    let op = LinearOp::<P>(PhantomData);
    match b {
        Some(b) => finish!(op, [x.node, w.node, b.node], state, output),
        None => finish!(op, [x.node, w.node], state, output),
    }
}

#[derive(Debug)]
struct LayerNormOp<P>(PhantomData<P>);

impl<P: Platform> Backward<P::Backend, 2> for LayerNormOp<P> {
    type State = [Primitive<P>; 4];

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy_nd = typed(grads.consume::<P::Backend>(&ops.node));
        let [x, gain, mean, rstd] = ops.state;
        let (x, gain, mean, rstd) = (typed(x), typed(gain), typed(mean), typed(rstd));
        let (dx_nd, dgain_d) = P::Kernels::layer_norm_backward(x, gain, mean, rstd, dy_nd, None);
        let [x_node, gain_node] = ops.parents;
        if let Some(node) = x_node {
            grads.register::<P::Backend>(node.id, primitive(dx_nd));
        }
        if let Some(node) = gain_node {
            grads.register::<P::Backend>(node.id, primitive(dgain_d));
        }
    }
}

/// Differentiable [`Kernels::layer_norm`].
pub fn layer_norm<P: Platform>(
    x_nd: DiffTensor<P, 2>,
    gain_d: DiffTensor<P, 1>,
    eps: f32,
) -> DiffTensor<P, 2> {
    let (x, gain) = (primitive(x_nd), primitive(gain_d));
    let Normalised { y_nd, mean_n, rstd_n } =
        P::Kernels::layer_norm(typed(x.primitive.clone()), typed(gain.primitive.clone()), eps);
    let state = [x.primitive, gain.primitive, primitive(mean_n), primitive(rstd_n)];
    finish!(LayerNormOp::<P>(PhantomData), [x.node, gain.node], state, primitive(y_nd))
}

#[derive(Debug)]
struct ReluOp<P>(PhantomData<P>);

impl<P: Platform> Backward<P::Backend, 1> for ReluOp<P> {
    type State = Primitive<P>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy_nd = typed(grads.consume::<P::Backend>(&ops.node));
        let [x_node] = ops.parents;
        if let Some(node) = x_node {
            let dx_nd = P::Kernels::relu_backward(typed(ops.state), dy_nd);
            grads.register::<P::Backend>(node.id, primitive(dx_nd));
        }
    }
}

/// Differentiable [`Kernels::relu`].
pub fn relu<P: Platform>(x_nd: DiffTensor<P, 2>) -> DiffTensor<P, 2> {
    let x = primitive(x_nd);
    let y = primitive(P::Kernels::relu(typed(x.primitive)));
    finish!(ReluOp::<P>(PhantomData), [x.node], y.clone(), y)
}

/// A loss whose gradient is known with it.
#[derive(Debug)]
struct LossOp<P>(PhantomData<P>);

impl<P: Platform> Backward<P::Backend, 1> for LossOp<P> {
    type State = Primitive<P>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dloss: Tensor<P::Backend, 1> = typed(grads.consume::<P::Backend>(&ops.node));
        let [y_node] = ops.parents;
        if let Some(node) = y_node {
            let dy_nf = P::Kernels::scale(typed(ops.state), dloss);
            grads.register::<P::Backend>(node.id, primitive(dy_nf));
        }
    }
}

/// Differentiable [`Kernels::huber`]; the target is a constant.
pub fn huber<P: Platform>(
    y_nf: DiffTensor<P, 2>,
    target_nf: Tensor<P::Backend, 2>,
) -> DiffTensor<P, 1> {
    let y = primitive(y_nf);
    let (loss, dy_nf) = P::Kernels::huber(typed(y.primitive), target_nf);
    finish!(LossOp::<P>(PhantomData), [y.node], primitive(dy_nf), primitive(loss))
}

/// Differentiable [`Kernels::huber_next`]; the targets are constants.
pub fn huber_next<P: Platform>(
    y_nf: DiffTensor<P, 2>,
    x_nf: Tensor<P::Backend, 2>,
    last_bf: Tensor<P::Backend, 2>,
) -> DiffTensor<P, 1> {
    let y = primitive(y_nf);
    let (loss, dy_nf) = P::Kernels::huber_next(typed(y.primitive), x_nf, last_bf);
    finish!(LossOp::<P>(PhantomData), [y.node], primitive(dy_nf), primitive(loss))
}

/// Differentiable [`Kernels::cross_entropy`]; the codes are constants.
pub fn cross_entropy<P: Platform>(
    logits_kv: DiffTensor<P, 2>,
    codes_k: Tensor<P::Backend, 1, Int>,
) -> DiffTensor<P, 1> {
    let logits = primitive(logits_kv);
    let (loss, dlogits_kv) = P::Kernels::cross_entropy(typed(logits.primitive), codes_k);
    finish!(LossOp::<P>(PhantomData), [logits.node], primitive(dlogits_kv), primitive(loss))
}

#[derive(Debug)]
struct SelectOp<P>(PhantomData<P>);

impl<P: Platform> Backward<P::Backend, 1> for SelectOp<P> {
    type State = (usize, Tensor<P::Backend, 1, Int>);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy_kd = typed(grads.consume::<P::Backend>(&ops.node));
        let [node] = ops.parents;
        if let Some(node) = node {
            let (rows, indices_k) = ops.state;
            let dx_rd = P::Kernels::select_backward(rows, indices_k, dy_kd);
            grads.register::<P::Backend>(node.id, primitive(dx_rd));
        }
    }
}

/// The rows of `x_rd` that `indices_k` name, `[k, d]`. Differentiable, by
/// [`Kernels::select_backward`].
pub fn select<P: Platform>(
    x_rd: DiffTensor<P, 2>,
    indices_k: Tensor<P::Backend, 1, Int>,
) -> DiffTensor<P, 2> {
    let x = primitive(x_rd);
    let x_rd: Tensor<P::Backend, 2> = typed(x.primitive);
    let state = (x_rd.dims()[0], indices_k.clone());
    let y_kd = primitive(x_rd.select(0, indices_k));
    finish!(SelectOp::<P>(PhantomData), [x.node], state, y_kd)
}

#[derive(Debug)]
struct RowsOp<P>(PhantomData<P>);

impl<P: Platform> Backward<P::Backend, 1> for RowsOp<P> {
    type State = ();

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy_nd = typed(grads.consume::<P::Backend>(&ops.node));
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<P::Backend>(node.id, primitive(P::Kernels::column_sums(dy_nd)));
        }
    }
}

/// `row_d`, `n` times: `[n, d]`. Differentiable, by [`Kernels::column_sums`]: the sums that Burn's
/// own broadcasts are differentiated by may be taken in another order each time.
pub fn rows<P: Platform>(row_d: DiffTensor<P, 1>, n: usize) -> DiffTensor<P, 2> {
    let row = primitive(row_d);
    let row_d: Tensor<P::Backend, 1> = typed(row.primitive);
    let [d] = row_d.dims();
    let rows_nd = primitive(row_d.unsqueeze::<2>().expand([n, d]));
    finish!(RowsOp::<P>(PhantomData), [row.node], (), rows_nd)
}
