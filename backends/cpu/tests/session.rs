//! Whole models on the CPU's kernels against the same models on the reference kernels.

use std::collections::BTreeMap;

use astropt_core::data::{Batch, Purpose, Row};
use astropt_core::engine::{self, HostTensor, Session, StateDict, StepSettings};
use astropt_core::kernels::{Platform, Reference};
use astropt_core::model::{ModelConfig, Tokeniser};
use astropt_core::tokens::{Positions, TokenSpec, Tokens, Values};
use astropt_cpu::CpuPlatform;
use burn_flex::{Flex, FlexDevice};

#[derive(Clone, Copy, Debug)]
struct ReferencePlatform;

impl Platform for ReferencePlatform {
    type Backend = Flex;
    type Kernels = Reference;
}

/// Reproducible numbers in [-1, 1).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

fn model(tokeniser: Tokeniser) -> ModelConfig {
    let spec =
        |values, positions| TokenSpec { values, positions, loss_weight: 1.5, max_tokens: 90 };
    let index = Positions::Index { max: 90 };
    ModelConfig {
        layers: 2,
        heads: 3,
        width: 24,
        tokeniser,
        mask_token: false,
        delimiters: false,
        modalities: BTreeMap::from([
            ("images".to_owned(), spec(Values::Continuous { width: 20 }, index)),
            (
                "spectra".to_owned(),
                spec(Values::Continuous { width: 7 }, Positions::Continuous { width: 2 }),
            ),
            ("types".to_owned(), spec(Values::Codes { vocabulary: 11 }, index)),
        ]),
    }
}

fn parameters(model: &ModelConfig) -> StateDict {
    let mut draw = Numbers(5);
    let parameters = model.parameters().into_iter().map(|p| {
        let data = draw.take(p.elements()).iter().map(|x| 0.3 * x).collect();
        (p.name, HostTensor { shape: p.shape, data })
    });
    parameters.collect()
}

/// One modality that fills the grid, or all three in rows of different lengths.
fn batch(model: &ModelConfig, mixed: bool) -> Batch {
    let mut draw = Numbers(9);
    let mut row = |length: usize| -> Row {
        let images = Tokens {
            len: length,
            values: draw.take(20 * length).into(),
            indices: (0..length as u32).collect(),
            ..Tokens::default()
        };
        let spectra = Tokens {
            len: 9,
            values: draw.take(7 * 9).into(),
            positions: draw.take(2 * 9),
            ..Tokens::default()
        };
        let types = Tokens { len: 2, codes: vec![3, 10], indices: vec![0, 1], ..Tokens::default() };
        let mut row = vec![("images".to_owned(), images)];
        if mixed {
            row.push(("spectra".to_owned(), spectra));
            row.push(("types".to_owned(), types));
        }
        row
    };
    let second = if mixed { 50 } else { 71 };
    let rows = [("a".to_owned(), row(71)), ("b".to_owned(), row(second))];
    Batch::assemble(&rows, &model.modalities, Purpose::Predict).expect("fits")
}

fn open<P: Platform>(
    model: &ModelConfig,
    device: burn_backend::tensor::Device<P::Backend>,
) -> Box<dyn Session> {
    let mut session = engine::open::<P>(device, model).expect("a session");
    session.set_parameters(&parameters(model)).expect("the model's own parameters");
    session
}

fn assert_close(what: &str, ours: &StateDict, truth: &StateDict, tolerance: f32) {
    assert!(ours.keys().eq(truth.keys()), "{what}");
    for (name, truth) in truth {
        let ours = &ours[name];
        assert_eq!(ours.shape, truth.shape, "{what} of {name}");
        let largest = truth.data.iter().fold(1e-30f32, |m, x| m.max(x.abs()));
        for (a, b) in ours.data.iter().zip(&truth.data) {
            let error = (a - b).abs() / largest;
            assert!(error <= tolerance, "{what} of {name}: {a}, not {b}; largest {largest}");
        }
    }
}

#[test]
fn training_agrees_with_the_reference() {
    for (tokeniser, mixed) in
        [(Tokeniser::Aim, false), (Tokeniser::Paper, true), (Tokeniser::Affine, true)]
    {
        let model = model(tokeniser);
        let batch = batch(&model, mixed);
        let mut ours = open::<CpuPlatform>(&model, FlexDevice);
        let mut truth = open::<ReferencePlatform>(&model, FlexDevice);
        let settings =
            StepSettings { lr: 1e-3, betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.1, clip: 1.0 };
        for step in 0..3 {
            ours.accumulate(batch.clone(), 0.5).expect("fits");
            truth.accumulate(batch.clone(), 0.5).expect("fits");
            if step == 0 {
                let (ours, truth) = (ours.gradients(), truth.gradients());
                assert_close("gradient", &ours.expect("some"), &truth.expect("some"), 2e-5);
            }
            let (ours, truth) = (ours.step(&settings), truth.step(&settings));
            let (ours, truth) = (ours.expect("a step"), truth.expect("a step"));
            let close = |a: f32, b: f32| (a - b).abs() <= 1e-5 * b.abs();
            assert!(close(ours.losses[0].total, truth.losses[0].total), "{ours:?} {truth:?}");
            assert!(close(ours.grad_norm, truth.grad_norm), "{ours:?} {truth:?}");
        }
        let (ours, truth) = (ours.predict(&batch), truth.predict(&batch));
        assert_close("prediction", &ours.expect("some"), &truth.expect("some"), 1e-4);
    }
}

/// The parameters after three steps, on this many threads.
fn trained(threads: usize) -> StateDict {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| {
        let model = model(Tokeniser::Paper);
        let batch = batch(&model, true);
        let mut session = open::<CpuPlatform>(&model, FlexDevice);
        let settings =
            StepSettings { lr: 1e-3, betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.1, clip: 1.0 };
        for _ in 0..3 {
            session.accumulate(batch.clone(), 1.0).expect("fits");
            session.step(&settings).expect("a step");
        }
        session.parameters().expect("some")
    })
}

#[test]
fn the_number_of_threads_changes_no_bit_of_a_trained_model() {
    let one = trained(1);
    for threads in [2, 3] {
        assert!(trained(threads) == one, "{threads} threads train another model than one");
    }
}
