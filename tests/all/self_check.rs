//! The self-check of a checkpoint hears every part of its model.

use astropt_core::checkpoint::{load_tensors, save_tensors};

use crate::faults::{pretrain, table};
use crate::program::{astropt, fails, unlist};

/// With each objective, whatever comes first in the stream: noise on any array of the model is
/// noticed.
#[test]
fn noise_on_any_part_of_the_model_is_noticed() {
    let masked = "objective={kind='masked',ratio=0.5}";
    for (out, key) in [
        ("plain", "stream.order='alphabetical'"),
        ("turned", "stream.order=['b','a']"),
        ("shuffled", "stream.order='shuffled'"),
        ("delimited", "stream.delimiters='begin-end'"),
        ("masked", masked),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        table(at);
        let keys = ["train.faults.on=skip", "train.steps=8", key];
        let output = astropt(at, &pretrain(out, &keys));
        assert!(output.status.success(), "{out}: {}", String::from_utf8_lossy(&output.stderr));
        let last = at.join(out).join("checkpoints/step-000008");
        let path = last.join("model.safetensors");
        unlist(&last);
        let (tensors, metadata) = load_tensors(&path).expect("loads");
        let names: Vec<&String> = tensors.keys().collect();
        assert!(names.iter().any(|name| name.starts_with("decoders.a")), "{names:?}");
        for name in names {
            let mut noisy = tensors.clone();
            let of = noisy.get_mut(name).expect("there");
            // Not the same for all: layer norms take that away.
            of.data.iter_mut().enumerate().for_each(|(k, x)| *x += 0.5 * (k as f32 + 1.0).sin());
            save_tensors(&path, &noisy, &metadata).expect("saves");
            let error = fails(at, &["embed", out, "-q"], 1);
            assert!(error.contains("fails its self-check"), "{out}, {name}: {error}");
        }
        save_tensors(&path, &tensors, &metadata).expect("saves");
    }
}
