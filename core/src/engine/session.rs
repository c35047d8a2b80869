//! The generic engine behind [`Session`].

use std::collections::BTreeMap;
use std::sync::Arc;

use burn_backend::tensor::Device;
use burn_tensor::{Tensor, TensorData, backend::Backend};

use super::gradient::{self, Differentiation};
use super::{
    HostTensor, Layer, Losses, OptimiserState, Precision, Session, StateDict, StepReport,
    StepSettings,
};
use crate::data::{Batch, Uploads};
use crate::error::{Error, Result};
use crate::kernels::{AdamW, Kernels, Platform, Slot};
use crate::model::{self, Cache, DeviceBatch, ModelConfig, ParameterSpec, Weights};
use crate::parallel::Ranks;
use crate::tokens::Values;

/// A model of the shape `model` with all parameters zero on `device`.
///
/// # Errors
/// When the shape contradicts itself.
pub fn open<P: Platform>(
    device: Device<P::Backend>,
    model: &ModelConfig,
) -> Result<Box<dyn Session>> {
    open_as::<P>(device, model, None)
}

/// The same, for a platform that knows [`Precision::Bf16`]: training can take `M`'s kernels,
/// which round what they multiply and hold all else in `f32`.
///
/// # Errors
/// When the shape contradicts itself.
pub fn open_mixed<P: Platform, M: Platform<Backend = P::Backend>>(
    device: Device<P::Backend>,
    model: &ModelConfig,
) -> Result<Box<dyn Session>> {
    open_as::<P>(device, model, Some(DeviceSession::<P>::differentiate::<M>))
}

fn open_as<P: Platform>(
    device: Device<P::Backend>,
    model: &ModelConfig,
    mixed: Option<Differentiate<P>>,
) -> Result<Box<dyn Session>> {
    model.check()?;
    let zeros = |spec: ParameterSpec| {
        let value = Tensor::zeros([spec.elements()], &device);
        Parameter { spec, value, moments: None, grad: None }
    };
    Ok(Box::new(DeviceSession::<P> {
        parameters: model.parameters().into_iter().map(zeros).collect(),
        model: model.clone(),
        device,
        steps: 0,
        losses: Vec::new(),
        recompute: false,
        mixed,
        precision: Precision::F32,
        cache: Cache::new(),
        uploads: None,
    }))
}

/// A batch forward and backward, on kernels of some precision.
type Differentiate<P> =
    fn(&DeviceSession<P>, Batch, f32) -> Differentiation<<P as Platform>::Backend>;

struct DeviceSession<P: Platform> {
    model: ModelConfig,
    device: Device<P::Backend>,
    parameters: Vec<Parameter<P::Backend>>,
    steps: u64,
    losses: Vec<PendingLosses<P::Backend>>,
    recompute: bool,
    /// Training in bf16, where the platform knows it.
    mixed: Option<Differentiate<P>>,
    precision: Precision,
    cache: Cache<P>,
    /// What brings batches onto the device, once it was asked for.
    uploads: Option<Arc<dyn Uploads>>,
}

/// A parameter and what training knows of it, flattened.
struct Parameter<B: Backend> {
    spec: ParameterSpec,
    value: Tensor<B, 1>,
    moments: Option<[Tensor<B, 1>; 2]>,
    grad: Option<Tensor<B, 1>>,
}

/// Losses still on the device.
struct PendingLosses<B: Backend> {
    total: Tensor<B, 1>,
    modalities: BTreeMap<String, Tensor<B, 1>>,
}

impl<B: Backend> PendingLosses<B> {
    fn total(&self) -> Result<f32> {
        scalar(self.total.clone())
    }

    fn read(self) -> Result<Losses> {
        let modalities = self.modalities.into_iter().map(|(name, loss)| Ok((name, scalar(loss)?)));
        Ok(Losses { total: scalar(self.total)?, modalities: modalities.collect::<Result<_>>()? })
    }
}

fn to_host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Result<HostTensor> {
    let shape = tensor.dims().to_vec();
    let data = tensor.into_data().into_vec::<f32>().map_err(|e| {
        Error::Failed(format!("the device returned numbers of an unexpected type: {e:?}"))
    })?;
    Ok(HostTensor { shape, data })
}

fn scalar<B: Backend>(tensor: Tensor<B, 1>) -> Result<f32> {
    to_host(tensor)?
        .data
        .first()
        .copied()
        .ok_or_else(|| Error::Failed("the device returned no number".into()))
}

/// Checks that `given` has exactly the parameters of `specs`, in their shapes.
fn check_names<'a>(
    specs: impl Iterator<Item = &'a ParameterSpec>,
    given: &StateDict,
    what: &str,
) -> Result<()> {
    let mut known = std::collections::BTreeSet::new();
    for spec in specs {
        known.insert(spec.name.as_str());
        match given.get(&spec.name) {
            None => return Err(Error::Failed(format!("{what} {} is missing", spec.name))),
            Some(found) if found.shape != spec.shape => {
                return Err(Error::Failed(format!(
                    "{what} {} has the shape {:?}, this model needs {:?}",
                    spec.name, found.shape, spec.shape
                )));
            }
            Some(_) => {}
        }
    }
    match given.keys().find(|name| !known.contains(name.as_str())) {
        Some(name) => Err(Error::Failed(format!("{what} {name} is unknown to this model"))),
        None => Ok(()),
    }
}

impl<P: Platform> DeviceSession<P> {
    /// `batch` forward and backward on the kernels of `Q`.
    fn differentiate<Q: Platform<Backend = P::Backend>>(
        &self,
        batch: Batch,
        scale: f32,
    ) -> Differentiation<P::Backend> {
        let batch = DeviceBatch::<Q>::new(batch, &self.model, &self.device);
        gradient::differentiate(&batch, &self.model, &self.weights::<Q>(true), scale)
    }

    /// The parameters as leaves; `track` asks for gradients.
    fn weights<Q: Platform<Backend = P::Backend>>(&self, track: bool) -> Weights<Q> {
        let mut weights = Weights {
            vectors: BTreeMap::new(),
            matrices: BTreeMap::new(),
            recompute: self.recompute,
        };
        for parameter in &self.parameters {
            let name = parameter.spec.name.clone();
            if let [rows, columns] = parameter.spec.shape[..] {
                let matrix = Tensor::from_inner(parameter.value.clone().reshape([rows, columns]));
                let matrix = if track { matrix.require_grad() } else { matrix };
                weights.matrices.insert(name, matrix);
            } else {
                let vector = Tensor::from_inner(parameter.value.clone());
                let vector = if track { vector.require_grad() } else { vector };
                weights.vectors.insert(name, vector);
            }
        }
        weights
    }

    fn upload(&self, tensor: &HostTensor) -> Tensor<P::Backend, 1> {
        let data = TensorData::new(tensor.data.clone(), [tensor.data.len()]);
        Tensor::from_data(data, &self.device)
    }

    fn download(
        &self,
        pick: impl Fn(&Parameter<P::Backend>) -> Option<Tensor<P::Backend, 1>>,
    ) -> Result<StateDict> {
        let mut out = StateDict::new();
        for parameter in &self.parameters {
            if let Some(tensor) = pick(parameter) {
                let HostTensor { data, .. } = to_host(tensor)?;
                let shape = parameter.spec.shape.clone();
                out.insert(parameter.spec.name.clone(), HostTensor { shape, data });
            }
        }
        Ok(out)
    }

    /// Refuses a batch whose tokens are not the model's.
    fn check(&self, batch: &Batch) -> Result<()> {
        for (name, part) in &batch.parts {
            let spec = self
                .model
                .modalities
                .get(name)
                .ok_or_else(|| Error::Failed(format!("the model has no modality {name:?}")))?;
            let numbers = match spec.values {
                Values::Continuous { width } => width,
                Values::Codes { .. } => 0,
            };
            if part.inputs.values.len() != part.inputs.len * numbers
                || part.target_values.len() != part.targets * numbers
            {
                return Err(Error::Failed(format!(
                    "the batch's {name} tokens are not {numbers} numbers wide"
                )));
            }
        }
        Ok(())
    }

    /// Global norm of the accumulated gradient.
    fn norm(&self) -> Result<f32> {
        let grads: Vec<_> = self.parameters.iter().filter_map(|p| p.grad.clone()).collect();
        if grads.is_empty() {
            return Err(Error::Failed("no gradient was accumulated before the step".into()));
        }
        scalar(P::Kernels::global_norm(&grads))
    }

    fn slots(&mut self) -> Vec<Slot<P::Backend>> {
        // Taken out of the session so that each tensor has one owner and kernels may
        // update it in place.
        let empty = Tensor::zeros([1], &self.device);
        let slots = self.parameters.iter_mut().map(|p| {
            let n = p.spec.elements();
            let zeros = || Tensor::zeros([n], &self.device);
            let [moment1, moment2] = p.moments.take().unwrap_or_else(|| [zeros(), zeros()]);
            Slot {
                value: std::mem::replace(&mut p.value, empty.clone()),
                grad: p.grad.take().unwrap_or_else(zeros),
                moment1,
                moment2,
                decay: p.spec.shape.len() >= 2,
            }
        });
        slots.collect()
    }
}

impl<P: Platform> Session for DeviceSession<P> {
    fn model(&self) -> &ModelConfig {
        &self.model
    }

    fn on_host(&self) -> bool {
        P::ON_HOST
    }

    fn uploads(&mut self) -> Result<Option<Arc<dyn Uploads>>> {
        if self.uploads.is_none() {
            self.uploads = P::uploads(&self.device)?;
        }
        Ok(self.uploads.clone())
    }

    fn parameters(&self) -> Result<StateDict> {
        self.download(|p| Some(p.value.clone()))
    }

    fn set_parameters(&mut self, parameters: &StateDict) -> Result<()> {
        check_names(self.parameters.iter().map(|p| &p.spec), parameters, "parameter")?;
        for k in 0..self.parameters.len() {
            let name = &self.parameters[k].spec.name;
            self.parameters[k].value = self.upload(&parameters[name]);
        }
        Ok(())
    }

    fn optimiser(&self) -> Result<OptimiserState> {
        let moment =
            |k: usize| self.download(move |p| p.moments.as_ref().map(|moments| moments[k].clone()));
        Ok(OptimiserState { moment1: moment(0)?, moment2: moment(1)?, steps: self.steps })
    }

    fn set_optimiser(&mut self, state: &OptimiserState) -> Result<()> {
        self.steps = state.steps;
        if state.steps == 0 && state.moment1.is_empty() && state.moment2.is_empty() {
            self.parameters.iter_mut().for_each(|p| p.moments = None);
            return Ok(());
        }
        for moment in [&state.moment1, &state.moment2] {
            check_names(self.parameters.iter().map(|p| &p.spec), moment, "moment of")?;
        }
        for k in 0..self.parameters.len() {
            let name = &self.parameters[k].spec.name;
            let moments = [self.upload(&state.moment1[name]), self.upload(&state.moment2[name])];
            self.parameters[k].moments = Some(moments);
        }
        Ok(())
    }

    fn accumulate(&mut self, batch: Batch, scale: f32) -> Result<()> {
        self.check(&batch)?;
        let differentiate = match (self.precision, self.mixed) {
            (Precision::Bf16, Some(mixed)) => mixed,
            _ => Self::differentiate::<P>,
        };
        let Differentiation { total, modalities, mut gradients } =
            differentiate(self, batch, scale);
        self.losses.push(PendingLosses { total, modalities });
        for parameter in &mut self.parameters {
            let grad = gradients.remove(&parameter.spec.name);
            parameter.grad = match (parameter.grad.take(), grad) {
                (Some(sum), Some(grad)) => Some(sum + grad),
                (sum, grad) => sum.or(grad),
            };
        }
        self.uploads.as_ref().map_or(Ok(()), |uploads| uploads.queued())
    }

    fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    fn set_precision(&mut self, precision: Precision) -> Result<()> {
        if precision == Precision::Bf16 && self.mixed.is_none() {
            return Err(Error::Misuse(
                "this backend computes in f32 alone; set train.precision = \"f32\"".into(),
            ));
        }
        self.precision = precision;
        Ok(())
    }

    fn gradients(&self) -> Result<StateDict> {
        self.download(|p| p.grad.clone())
    }

    fn sum_gradients(&mut self, ranks: &dyn Ranks, settings: &StepSettings) -> Result<()> {
        // A parameter without a gradient here may have one on another process.
        let device = self.device.clone();
        let grads = self.parameters.iter_mut().map(|p| {
            let zeros = || Tensor::zeros([p.spec.elements()], &device);
            p.grad.take().unwrap_or_else(zeros)
        });
        let mut grads: Vec<_> = grads.collect();
        let borne = |losses: &PendingLosses<P::Backend>| Ok(settings.bears(losses.total()?));
        if !self.losses.iter().map(borne).collect::<Result<Vec<_>>>()?.into_iter().all(|yes| yes) {
            grads[0] = grads[0].clone().mul_scalar(f32::NAN);
        }
        P::Kernels::sum_over(&mut grads, ranks)?;
        for (parameter, grad) in self.parameters.iter_mut().zip(grads) {
            parameter.grad = Some(grad);
        }
        Ok(())
    }

    fn step(&mut self, settings: &StepSettings) -> Result<StepReport> {
        let grad_norm = self.norm()?;
        // The norm was waited for, so the losses are there too: whether to take the step costs
        // no further wait.
        let losses = std::mem::take(&mut self.losses);
        let losses = losses.into_iter().map(PendingLosses::read).collect::<Result<Vec<_>>>()?;
        if !settings.takes(grad_norm, &losses) {
            self.parameters.iter_mut().for_each(|p| p.grad = None);
            return Ok(StepReport { losses, grad_norm, taken: false });
        }
        let mut slots = self.slots();
        self.steps += 1;
        let clip = settings.clip as f32;
        // As PyTorch's clip_grad_norm_: the factor clip/(norm + 1e-6), never above one.
        let grad_scale = if clip > 0.0 { (clip / (grad_norm + 1e-6)).min(1.0) } else { 1.0 };
        let step = AdamW {
            lr: settings.lr as f32,
            beta1: settings.betas[0] as f32,
            beta2: settings.betas[1] as f32,
            eps: settings.eps as f32,
            weight_decay: settings.weight_decay as f32,
            step: self.steps,
            grad_scale,
        };
        P::Kernels::adamw(&mut slots, &step);
        for (parameter, slot) in self.parameters.iter_mut().zip(slots) {
            parameter.value = slot.value;
            parameter.moments = Some([slot.moment1, slot.moment2]);
        }
        Ok(StepReport { losses, grad_norm, taken: true })
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Losses> {
        self.check(batch)?;
        let device_batch = DeviceBatch::<P>::new(batch.clone(), &self.model, &self.device);
        let weights = self.weights::<P>(false);
        let states_nd = model::states(&device_batch, &self.model, &weights, Layer::Final);
        let outputs = model::decode(&states_nd, &device_batch, &self.model, &weights);
        let losses = model::losses(outputs, &device_batch, &self.model);
        let total = losses.total;
        let modalities = losses.modalities.into_iter().map(|(name, loss)| (name, loss.inner()));
        PendingLosses { total: total.inner(), modalities: modalities.collect() }.read()
    }

    fn predict(&mut self, batch: &Batch) -> Result<StateDict> {
        self.check(batch)?;
        let device_batch = DeviceBatch::<P>::new(batch.clone(), &self.model, &self.device);
        let weights = self.weights::<P>(false);
        let states_nd = model::states(&device_batch, &self.model, &weights, Layer::Final);
        let outputs = model::decode(&states_nd, &device_batch, &self.model, &weights);
        outputs.into_iter().map(|(name, y)| Ok((name, to_host(y.inner())?))).collect()
    }

    fn hidden(&mut self, batch: &Batch, layer: Layer) -> Result<HostTensor> {
        self.check(batch)?;
        let device_batch = DeviceBatch::<P>::new(batch.clone(), &self.model, &self.device);
        let weights = self.weights::<P>(false);
        let states_nd = model::states(&device_batch, &self.model, &weights, layer);
        let shape = vec![batch.rows, batch.len, self.model.width];
        Ok(HostTensor { shape, data: to_host(states_nd.inner())?.data })
    }

    fn read(&mut self, batch: &Batch) -> Result<()> {
        self.check(batch)?;
        let tokens: usize = batch.parts.values().map(|part| part.inputs.len).sum();
        let filled = tokens + batch.delimiters.len();
        let rows = self.cache.rows();
        if filled != batch.slots() || filled == 0 {
            return Err(Error::Failed("rows that are read need equal numbers of tokens".into()));
        }
        if rows != 0 && rows != batch.rows {
            let message = format!("{} rows cannot go on where {rows} ended", batch.rows);
            return Err(Error::Failed(message));
        }
        let device_batch = DeviceBatch::<P>::new(batch.clone(), &self.model, &self.device);
        let weights = self.weights::<P>(false);
        self.cache.read(&device_batch, &self.model, &weights);
        Ok(())
    }

    fn predict_next(&mut self, modality: &str) -> Result<HostTensor> {
        if !self.model.modalities.contains_key(modality) {
            return Err(Error::Failed(format!("the model has no modality {modality:?}")));
        }
        let weights = self.weights::<P>(false);
        match self.cache.predict_next(modality, &self.model, &weights) {
            Some(next) => to_host(next.inner()),
            None => Err(Error::Failed("nothing was read that a token could follow".into())),
        }
    }

    fn forget(&mut self) {
        self.cache = Cache::new();
    }
}
