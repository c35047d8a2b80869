//! Generation on a backend: a token that is made is the one that training would predict there.

use super::{Check, ensure};
use crate::data::{Assembly, Objective, Row, Sequence, Task};
use crate::engine::Session;
use crate::generate::{Sampling, Wanted, generate};
use crate::model::ModelConfig;
use crate::tokens::Tokens;

/// Largest difference between numbers that should be equal, relative to the largest.
const TOLERANCE: f32 = 1e-4;
/// Tokens that are given, and tokens of the span.
const GIVEN: usize = 3;
const LEN: usize = 5;
/// Numbers of a token.
const WIDTH: usize = 6;

/// An object whose codes are given, and whose image is wanted after its first tokens.
fn wanted(id: &str, at: f32, prompt: usize) -> Wanted {
    let noise =
        |n: usize, at: f32| -> Vec<f32> { (0..n).map(|k| (at + 1.9 * k as f32).sin()).collect() };
    let codes = Tokens {
        len: GIVEN,
        codes: vec![1, 3, at as u32],
        positions: noise(2 * GIVEN, at),
        ..Tokens::default()
    };
    let span = Tokens {
        len: LEN,
        values: noise(WIDTH * LEN, at + 0.5).into(),
        indices: (0..LEN as u32).collect(),
        affine: vec![[at, 2.0]; LEN],
        ..Tokens::default()
    };
    let given = vec![("codes".to_owned(), codes)];
    Wanted { id: id.to_owned(), given, place: 1, span, prompt }
}

/// Under every objective, with and without a prompt.
pub(super) fn check(session: &mut dyn Session, model: &ModelConfig) -> Check {
    let objectives = [
        Objective::Autoregressive,
        Objective::Prefix { least: 0.0, most: 0.9 },
        Objective::Masked { ratio: 0.5 },
    ];
    for prompt in [0, 2] {
        for objective in objectives {
            check_objective(session, model, objective, prompt)
                .map_err(|wrong| format!("{objective:?}, a prompt of {prompt}: {wrong}"))?;
        }
    }
    Ok(())
}

fn check_objective(
    session: &mut dyn Session,
    model: &ModelConfig,
    objective: Objective,
    prompt: usize,
) -> Check {
    let text = |e: crate::Error| e.to_string();
    let wanted = [wanted("x", 0.0, prompt), wanted("y", 4.0, prompt)];
    let sampling = Sampling { temperature: 0.0, noise: 0.0, seed: 0 };
    let made = generate(session, &wanted, "image", objective, 8, sampling).map_err(text)?;
    ensure(made.len() == 2 && made.iter().all(|span| span.affine.is_empty()), || {
        "it makes other than two spans, or such as know the objects' own scale".to_owned()
    })?;
    let (task, first) = match objective {
        Objective::Autoregressive => (Task::Next, prompt),
        // What is given, up to the delimiter that begins the image, is the prefix.
        Objective::Prefix { .. } => (Task::After(GIVEN + prompt), 0),
        Objective::Masked { .. } => {
            (Task::Masked((0..GIVEN + LEN).map(|k| k >= GIVEN + prompt).collect()), 0)
        }
    };
    let whole = |(wanted, span): (&Wanted, &Tokens)| -> Row {
        let image = ("image".to_owned(), span.clone());
        wanted.given.iter().cloned().chain([image]).collect()
    };
    let rows: Vec<Row> = wanted.iter().zip(&made).map(whole).collect();
    let pairs = wanted.iter().zip(&rows);
    let sequences: Vec<_> = pairs
        .map(|(wanted, spans)| Sequence { id: &wanted.id, spans, task: task.clone() })
        .collect();
    let full = !objective.is_causal();
    let assembly = Assembly { specs: &model.modalities, delimiters: true, full, row_length: None };
    let batch = assembly.batch(&sequences).map_err(text)?;
    let predicted = session.predict(&batch).map_err(text)?;
    let predicted = &predicted.get("image").ok_or("no prediction")?.data;
    for (span, expected) in made.iter().zip(predicted.chunks(predicted.len() / 2)) {
        let (made, expected) = (&span.values[WIDTH * prompt..], &expected[WIDTH * first..]);
        let largest = expected.iter().fold(1e-30f32, |most, x| most.max(x.abs()));
        let off = made.iter().zip(expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        ensure(made.len() == expected.len() && off <= TOLERANCE * largest, || {
            format!("tokens are made otherwise than training predicts them, by {off}")
        })?;
    }
    Ok(())
}
