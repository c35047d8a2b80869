//! Whole models on the CPU's kernels against the same models on the reference kernels.

use std::collections::BTreeMap;

use astropt_core::data::{Batch, Purpose, Row};
use astropt_core::engine::{self, HostTensor, Session, StateDict, StepSettings};
use astropt_core::model::{ModelConfig, Tokeniser};
use astropt_core::testkit::{self, kernels::Numbers};
use astropt_core::tokens::{Positions, TokenSpec, Tokens, Values};
use astropt_cpu::CpuPlatform;
use burn_flex::FlexDevice;

fn model() -> ModelConfig {
    let spec =
        |values, positions| TokenSpec { values, positions, loss_weight: 1.5, max_tokens: 90 };
    let index = Positions::Index { max: 90 };
    ModelConfig {
        layers: 2,
        heads: 3,
        width: 24,
        tokeniser: Tokeniser::Paper,
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
    let mut draw = Numbers::new(5);
    let parameters = model.parameters().into_iter().map(|p| {
        let data = draw.take(p.elements()).iter().map(|x| 0.3 * x).collect();
        (p.name, HostTensor { shape: p.shape, data })
    });
    parameters.collect()
}

/// All three modalities in rows of different lengths.
fn batch(model: &ModelConfig) -> Batch {
    let mut draw = Numbers::new(9);
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
        let spans = [("images", images), ("spectra", spectra), ("types", types)];
        spans.map(|(name, tokens)| (name.to_owned(), tokens)).into()
    };
    let rows = [("a".to_owned(), row(71)), ("b".to_owned(), row(50))];
    Batch::assemble(&rows, &model.modalities, Purpose::Predict).expect("fits")
}

fn open(model: &ModelConfig) -> Box<dyn Session> {
    let mut session = engine::open::<CpuPlatform>(FlexDevice, model).expect("a session");
    session.set_parameters(&parameters(model)).expect("the model's own parameters");
    session
}

#[test]
fn training_agrees_with_the_reference() {
    testkit::backend::check_platform::<CpuPlatform>(&FlexDevice)
        .unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// The parameters after three steps, on this many threads.
fn trained(threads: usize) -> StateDict {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| {
        let model = model();
        let batch = batch(&model);
        let mut session = open(&model);
        let settings = StepSettings::new(1e-3);
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
