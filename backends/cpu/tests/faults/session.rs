//! The suite of backends: the CPU's with one fault at a time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use astropt_core::data::Batch;
use astropt_core::engine::{
    HostTensor, Layer, Losses, OptimiserState, Precision, Session, StateDict, StepReport,
    StepSettings,
};
use astropt_core::error::{Error, Result};
use astropt_core::model::ModelConfig;
use astropt_core::parallel::Ranks;
use astropt_core::seam::{Backend, BackendPlugin, Device, PluginInfo};
use astropt_core::testkit::backend::check_plugin;
use astropt_cpu::Cpu;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    PanicsForDevices,
    NoDeviceNoReason,
    NoDeviceNoError,
    TakesAnyParameters,
    LosesParameters,
    TakesAnyPrecision,
    IgnoresScale,
    RecomputesOtherwise,
    DoublesGradients,
    EvaluatesOtherwise,
    LayersAlike,
    PredictsTooFew,
    ReadsAnew,
    SumsNothing,
    SumsTwice,
    LosesMoments,
    TakesEveryStep,
    StepsByChance,
    OnTheSecondDevice,
}

use Fault as F;

/// Each fault, and what the suite says of it.
const FOUND: [(Fault, &str); 20] = [
    (F::None, ""),
    (F::PanicsForDevices, "panics: there are none"),
    (F::NoDeviceNoReason, "no device and no reason"),
    (F::NoDeviceNoError, "no device must be an error"),
    (F::TakesAnyParameters, "a missing parameter is not refused"),
    (F::LosesParameters, "parameters do not come out as they went in"),
    (F::TakesAnyPrecision, "bf16 is taken, which the backend does not know"),
    (F::IgnoresScale, "recomputing moves the gradient"),
    (F::RecomputesOtherwise, "recomputing moves the gradient"),
    (F::DoublesGradients, "the loss rises by"),
    (F::EvaluatesOtherwise, "training reports"),
    (F::LayersAlike, "layers do not differ"),
    (F::PredictsTooFew, "predictions of"),
    (F::ReadsAnew, "read piece by piece, the prediction is off"),
    (F::SumsNothing, "two processes have different sums of their gradients"),
    (F::SumsTwice, "summed over two processes"),
    (F::LosesMoments, "a state put back does not go on alike"),
    (F::TakesEveryStep, "a step is taken that must not be"),
    (F::StepsByChance, "the same steps give other parameters the second time"),
    (F::OnTheSecondDevice, "faulty:1, Paper: the loss rises by"),
];

/// The one fault that there is.
static FAULT: Mutex<Fault> = Mutex::new(Fault::None);

/// Sessions that were opened.
static OPENED: AtomicU32 = AtomicU32::new(0);

fn fault() -> Fault {
    *FAULT.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Faulty;

impl Backend for Faulty {
    fn devices(&self) -> Result<Vec<Device>> {
        match fault() {
            F::PanicsForDevices => panic!("there are none"),
            F::NoDeviceNoReason => Err(Error::Failed(String::new())),
            F::NoDeviceNoError => Ok(Vec::new()),
            F::OnTheSecondDevice => Ok([Cpu.devices()?, Cpu.devices()?].concat()),
            _ => Cpu.devices(),
        }
    }

    fn open(&self, index: usize, model: &ModelConfig) -> Result<Box<dyn Session>> {
        let (session, number) = (Cpu.open(0, model)?, OPENED.fetch_add(1, Ordering::Relaxed));
        Ok(Box::new(FaultySession { session, index, number, recompute: false }))
    }
}

struct FaultySession {
    session: Box<dyn Session>,
    /// Of the device.
    index: usize,
    /// Of all that were opened.
    number: u32,
    recompute: bool,
}

impl Session for FaultySession {
    fn model(&self) -> &ModelConfig {
        self.session.model()
    }

    fn parameters(&self) -> Result<StateDict> {
        let mut parameters = self.session.parameters()?;
        if fault() == F::LosesParameters {
            parameters.values_mut().for_each(|tensor| tensor.data[0] = 0.0);
        }
        Ok(parameters)
    }

    fn set_parameters(&mut self, parameters: &StateDict) -> Result<()> {
        let set = self.session.set_parameters(parameters);
        if fault() == F::TakesAnyParameters { Ok(()) } else { set }
    }

    fn optimiser(&self) -> Result<OptimiserState> {
        self.session.optimiser()
    }

    fn set_optimiser(&mut self, state: &OptimiserState) -> Result<()> {
        if fault() == F::LosesMoments && state.steps > 0 {
            return Ok(());
        }
        self.session.set_optimiser(state)
    }

    fn on_host(&self) -> bool {
        self.session.on_host()
    }

    fn accumulate(&mut self, batch: Batch, scale: f32) -> Result<()> {
        let scale = match fault() {
            F::IgnoresScale => 1.0,
            F::RecomputesOtherwise if self.recompute => 1.01 * scale,
            _ => scale,
        };
        self.session.accumulate(batch, scale)
    }

    fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
        self.session.set_recompute(recompute);
    }

    fn set_precision(&mut self, precision: Precision) -> Result<()> {
        let set = self.session.set_precision(precision);
        if fault() == F::TakesAnyPrecision { Ok(()) } else { set }
    }

    fn gradients(&self) -> Result<StateDict> {
        let mut gradients = self.session.gradients()?;
        if fault() == F::DoublesGradients || fault() == F::OnTheSecondDevice && self.index == 1 {
            gradients.values_mut().flat_map(|tensor| &mut tensor.data).for_each(|g| *g *= 2.0);
        }
        Ok(gradients)
    }

    fn sum_gradients(&mut self, ranks: &dyn Ranks, settings: &StepSettings) -> Result<()> {
        match fault() {
            F::SumsNothing => return Ok(()),
            F::SumsTwice => self.session.sum_gradients(ranks, settings)?,
            _ => {}
        }
        self.session.sum_gradients(ranks, settings)
    }

    fn step(&mut self, settings: &StepSettings) -> Result<StepReport> {
        let mut settings = *settings;
        match fault() {
            F::TakesEveryStep => (settings.norm_limit, settings.loss_limit) = (None, None),
            F::StepsByChance => settings.lr *= 1.0 + 0.01 * f64::from(self.number),
            _ => {}
        }
        self.session.step(&settings)
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Losses> {
        let mut losses = self.session.evaluate(batch)?;
        if fault() == F::EvaluatesOtherwise {
            losses.total += 0.1;
        }
        Ok(losses)
    }

    fn predict(&mut self, batch: &Batch) -> Result<StateDict> {
        let mut outputs = self.session.predict(batch)?;
        if fault() == F::PredictsTooFew {
            outputs.values_mut().for_each(|output| output.shape[0] -= 1);
        }
        Ok(outputs)
    }

    fn hidden(&mut self, batch: &Batch, layer: Layer) -> Result<HostTensor> {
        self.session.hidden(batch, if fault() == F::LayersAlike { Layer::Final } else { layer })
    }

    fn read(&mut self, batch: &Batch) -> Result<()> {
        if fault() == F::ReadsAnew {
            self.session.forget();
        }
        self.session.read(batch)
    }

    fn predict_next(&mut self, modality: &str) -> Result<HostTensor> {
        self.session.predict_next(modality)
    }

    fn forget(&mut self) {
        self.session.forget();
    }
}

#[test]
fn each_fault_of_a_session_is_found_and_named() {
    let info = PluginInfo { kind: "faulty", summary: "", example: "", package: "" };
    let plugin = BackendPlugin { info, build: || Box::new(Faulty) };
    for (fault, words) in FOUND {
        *FAULT.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        match check_plugin(&plugin) {
            Ok(()) => assert_eq!(fault, F::None, "not found"),
            Err(said) => assert!(fault != F::None && said.contains(words), "{fault:?}: {said}"),
        }
    }
}
