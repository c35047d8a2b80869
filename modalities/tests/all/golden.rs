//! Agreement with what the Python AstroPT answers.

use std::path::Path;

use astropt_core::observation::Data;
use astropt_modalities::galaxy_image::{Orientation, spiral};
use safetensors::SafeTensors;

use crate::fixtures::{galaxy_image, golden, object, shared};

#[test]
fn spirals_are_the_recorded_ones() {
    let text = std::fs::read_to_string(golden("spiral.json")).expect("readable");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let grids = json["spiral"].as_object().expect("grids by size");
    assert!(grids.len() > 5);
    for (side, grid) in grids {
        let side: usize = side.parse().expect("a number");
        for (token, patch) in spiral(side, Orientation::Astropt).into_iter().enumerate() {
            assert_eq!(grid[patch / side][patch % side], token, "grid of {side}, patch {patch}");
        }
    }
}

/// Compares the tokens of a picture with the recorded ones; hands back how many sets.
fn compare(picture: &Path, recorded: &Path) -> usize {
    let bytes = std::fs::read(picture).expect("readable");
    let image = astropt_modalities::sources::decode::decode(&bytes).expect("a picture");
    let Data::U8(pixels) = image.data else { panic!("bytes expected") };
    let observation = object([image.shape[0], image.shape[1], image.shape[2]], Data::U8(pixels));
    let file = std::fs::read(recorded).expect("readable");
    let tensors = SafeTensors::deserialize(&file).expect("safetensors");
    for (key, tensor) in tensors.tensors() {
        let [patch, order, axes] = key.split('.').collect::<Vec<_>>()[..] else { panic!("{key}") };
        let modality = galaxy_image(&format!(
            "size = 96\npatch = {}\norder = '{order}'\naxes = '{axes}'\ncrop = 'refuse'",
            &patch[1..]
        ));
        let tokens = modality.tokenise(&observation).expect("sound").expect("an image");
        let expected: Vec<f32> = tensor
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        assert_eq!(tokens.values.len(), expected.len(), "{key}");
        for (i, (a, b)) in tokens.values.iter().zip(&expected).enumerate() {
            // Rounding of the mean to single precision, divided by a small deviation.
            assert!((a - b).abs() <= 1e-5, "{key}, number {i}: {a} and not {b}");
        }
    }
    tensors.len()
}

#[test]
fn tokens_are_the_recorded_ones() {
    let sets = compare(&golden("class_0_4.png"), &golden("class_0_4.safetensors"));
    assert_eq!(sets, 2);
}

#[test]
fn tokens_are_the_recorded_ones_in_every_order_and_size() {
    let Some(folder) = shared("golden/tokens") else { return };
    for name in ["class_0_4", "class_5_9"] {
        let path = folder.join(name);
        assert_eq!(compare(&path.with_extension("png"), &path.with_extension("safetensors")), 8);
    }
}
