use std::collections::BTreeMap;

use proptest::prelude::*;

use super::convert::fits;
use super::index::Precision;
use super::originals::read_file;
use super::reader::{Shard, ShardFile};
use super::writer::{Builder, Spans};
use crate::checkpoint::arrays::save_arrays;
use crate::observation::{Array, Data};
use crate::tokens::{Positions, TokenSpec, Tokens, Values};

const OBJECTS: usize = 4;

fn specs() -> BTreeMap<String, TokenSpec> {
    let spec = |values, positions| TokenSpec { values, positions, loss_weight: 1.0, max_tokens: 5 };
    let patches = spec(Values::Continuous { width: 3 }, Positions::Index { max: 50 });
    let codes = spec(Values::Codes { vocabulary: 9 }, Positions::Continuous { width: 2 });
    BTreeMap::from([("codes".to_owned(), codes), ("patches".to_owned(), patches)])
}

/// Objects that have both modalities, one or none; their positions count from 0 or jump.
fn objects() -> impl Strategy<Value = Vec<Spans>> {
    let number = prop_oneof![-9.0f32..9.0, Just(f32::MIN_POSITIVE), Just(0.1)];
    let numbers = prop::collection::vec(number, 20);
    let one = (0..=5usize, 0..=5usize, numbers, 1..4u32, any::<bool>());
    prop::collection::vec(one.prop_map(object), OBJECTS)
}

fn object((patches, codes, numbers, stride, affine): (usize, usize, Vec<f32>, u32, bool)) -> Spans {
    let mut spans = Spans::default();
    if codes > 0 {
        let tokens = Tokens {
            len: codes,
            codes: (0..codes as u32).map(|k| (k * stride) % 9).collect(),
            positions: numbers[..2 * codes].to_vec(),
            ..Tokens::default()
        };
        spans.row.push(("codes".into(), tokens));
    }
    if patches > 0 {
        let pairs =
            if affine { numbers[..patches].iter().map(|&x| [x, 2.0]).collect() } else { vec![] };
        let tokens = Tokens {
            len: patches,
            values: numbers[..3 * patches].to_vec().into(),
            indices: (0..patches as u32).map(|k| k * stride).collect(),
            affine: pairs,
            ..Tokens::default()
        };
        spans.row.push(("patches".into(), tokens));
        spans.raw.insert("patches".into(), numbers[..4].to_vec());
    }
    spans
}

/// The file of originals comes back, and damaged it is an error or another object, never a panic.
#[test]
fn damaged_originals_do_no_harm() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("astropt-originals.safetensors");
    let text = r#"[{"index":3,"id":"o","raw":{"fields":{"x":"adu"},"labels":{"z":0.5}}}]"#;
    let metadata = [("astropt_format", "2"), ("objects", text)];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let array = Array::new(vec![3], Data::U8(vec![1, 2, 3])).expect("fits");
    save_arrays(&path, &[("raw.0.x".to_owned(), array)].into(), &metadata).expect("saved");
    let sound = std::fs::read(&path).expect("readable");
    let read = read_file(&path).expect("reads");
    assert_eq!((read.len(), read[0].0, read[0].1.id.as_str()), (1, 3, "o"));
    for at in 0..sound.len() {
        for with in [0, 0xff, b'9', b'"'] {
            let mut bytes = sound.clone();
            bytes[at] = with;
            std::fs::write(&path, &bytes).expect("writable");
            let _ = read_file(&path);
        }
        std::fs::write(&path, &sound[..at]).expect("writable");
        assert!(read_file(&path).is_err(), "cut at {at}");
    }
}

/// Half precision has no digits left for numbers near 1e-7, and none at all for larger ones than 65504.
#[test]
fn numbers_that_half_precision_does_not_hold_are_refused() {
    let check = |values: &[f32], precision| {
        let tokens =
            Tokens { len: values.len(), values: values.to_vec().into(), ..Tokens::default() };
        fits(&vec![("images".to_owned(), tokens)], precision)
    };
    let small: Vec<f32> = (1..100).map(|k| 1e-7 + 4e-10 * k as f32).collect();
    let why = check(&small, Precision::F16).expect_err("too small");
    assert!(why.contains("numbers of images are too small for --dtype f16"), "{why}");
    assert!(why.contains("1.4e-7") && why.contains("--dtype f32"), "{why}");
    assert_eq!(check(&small, Precision::F32), Ok(()));
    // Small numbers beside larger ones lose nothing that counts, nor does an empty image.
    let beside: Vec<f32> = small.iter().copied().chain([0.01]).collect();
    for kept in [&beside[..], &[0.0; 9], &[7e-5, 6.3e-5, 1e-6], &[-65504.0, 3.0]] {
        assert_eq!(check(kept, Precision::F16), Ok(()), "{kept:?}");
    }
    let why = check(&[1.0, -7e4], Precision::F16).expect_err("too large");
    assert!(why.contains("the value -70000 is too large"), "{why}");
    // What lies in megabytes is looked at as well.
    let many: Vec<f32> = (0..1_000_000u32).map(|k| 1e-7 + (k % 977) as f32 * 1e-10).collect();
    assert!(check(&many, Precision::F16).is_err());
}

/// Writes `objects` as a shard, changes its bytes, and opens it with the hash it then has.
fn shard(objects: &[Spans], change: impl FnOnce(&mut Vec<u8>)) -> crate::Result<Shard> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("shard.safetensors");
    let specs = specs();
    let mut builder = Builder::new(&specs, Precision::F32);
    objects.iter().for_each(|spans| builder.push(spans));
    let (size, xxh3) = builder.write(&path)?;
    let mut bytes = std::fs::read(&path).expect("readable");
    assert_eq!((bytes.len() as u64, super::hash(&bytes)), (size, xxh3));
    change(&mut bytes);
    std::fs::write(&path, &bytes).expect("writable");
    let file =
        ShardFile { bytes: bytes.len() as u64, xxh3: super::hash(&bytes), objects: objects.len() };
    Shard::open(&path, &file, &specs, Precision::F32)
}

/// Every object of a shard, read whole.
fn read_all(shard: &Shard) -> Result<Vec<Vec<(String, Tokens)>>, String> {
    (0..OBJECTS)
        .map(|k| {
            shard.raw_features(k, "patches")?;
            shard.tokens(k, &|_| true)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tokens_come_back(objects in objects()) {
        let shard = shard(&objects, |_| {}).expect("opens");
        let rows = read_all(&shard).expect("readable");
        // Where one object of a shard has something removed, nothing is 0 and 1.
        let affine = objects.iter().flat_map(|o| &o.row).any(|(_, t)| !t.affine.is_empty());
        for (k, (spans, row)) in objects.iter().zip(rows).enumerate() {
            let mut expected = spans.row.clone();
            for (name, tokens) in &mut expected {
                if affine && name == "patches" && tokens.affine.is_empty() {
                    tokens.affine = vec![[0.0, 1.0]; tokens.len];
                }
            }
            prop_assert_eq!(&row, &expected);
            let raw = shard.raw_features(k, "patches").expect("readable");
            prop_assert_eq!(raw.as_ref(), spans.raw.get("patches"));
            let codes = shard.tokens(k, &|name| name == "codes").expect("readable");
            prop_assert!(codes.iter().all(|(name, _)| name == "codes"));
        }
        prop_assert!(shard.tokens(OBJECTS, &|_| true).is_err());
    }

    /// A writer that lies and signs it: an error or other numbers, and never a panic.
    #[test]
    fn a_shard_that_lies_does_no_harm(
        objects in objects(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let change = |bytes: &mut Vec<u8>| {
            for (at, with) in flips {
                let at = at.index(bytes.len());
                bytes[at] = with;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
        };
        if let Ok(shard) = shard(&objects, change) {
            let _ = read_all(&shard);
        }
    }
}
