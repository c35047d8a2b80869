//! Arrays of observations and tokens in a safetensors file, each number in its own type.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::Dtype;

use super::files::write_atomic;
use super::tensors::{each_array, header};
use crate::error::{Error, Result};
use crate::observation::{Array, Data};
use crate::tokens::{Positions, TokenSpec, Tokens, Values};

/// Arrays by name.
pub type Arrays = BTreeMap<String, Array>;

/// Writes `arrays` and `metadata` to `path`, whole or not at all. The same content gives the
/// same bytes.
///
/// # Errors
/// When an array's shape disagrees with its length, or the file cannot be written.
pub fn save_arrays(
    path: impl AsRef<Path>,
    arrays: &Arrays,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path.as_ref();
    let described =
        arrays.iter().map(|(name, a)| (name.as_str(), dtype(&a.data), &a.shape[..], a.data.len()));
    let header = header(described, metadata).map_err(|e| Error::file(path, e))?;
    write_atomic(path, |file| {
        let failed = |e: std::io::Error| Error::io("write", path, &e);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
        file.write_all(&header).map_err(failed)?;
        arrays.values().try_for_each(|a| file.write_all(&encode(&a.data)).map_err(failed))
    })
}

/// Reads what [`save_arrays`] wrote.
///
/// # Errors
/// When the file cannot be read, is cut short, contradicts itself, or holds numbers of a
/// type that no observation has.
pub fn load_arrays(path: impl AsRef<Path>) -> Result<(Arrays, BTreeMap<String, String>)> {
    let mut arrays = Arrays::new();
    let metadata = each_array(path.as_ref(), |name, info, bytes| {
        let data = match info.dtype {
            Dtype::U8 => Data::U8(bytes),
            Dtype::U16 => Data::U16(numbers(&bytes, u16::from_le_bytes)),
            Dtype::F32 => Data::F32(numbers(&bytes, f32::from_le_bytes)),
            Dtype::F64 => Data::F64(numbers(&bytes, f64::from_le_bytes)),
            Dtype::I64 => Data::I64(numbers(&bytes, i64::from_le_bytes)),
            other => return Err(format!("numbers of type {other} are not read")),
        };
        let array = Array::new(info.shape.clone(), data).map_err(|e| e.to_string())?;
        arrays.insert(name, array);
        Ok(())
    })?;
    Ok((arrays, metadata))
}

/// Bytes that `data` takes in a file.
pub(crate) fn byte_length(data: &Data) -> usize {
    dtype(data).bitsize() / 8 * data.len()
}

fn dtype(data: &Data) -> Dtype {
    match data {
        Data::U8(_) => Dtype::U8,
        Data::U16(_) => Dtype::U16,
        Data::F32(_) => Dtype::F32,
        Data::F64(_) => Dtype::F64,
        Data::I64(_) => Dtype::I64,
    }
}

fn encode(data: &Data) -> Vec<u8> {
    match data {
        Data::U8(v) => v.clone(),
        Data::U16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::F64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

fn numbers<T, const N: usize>(bytes: &[u8], one: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&b| one(b)).collect()
}

/// `tokens` of the modality `name` as arrays: `name` (values `[tokens, width]`, or codes
/// `[tokens]`), `name_positions`, and `name_affine` `[tokens, 2]` where there is one.
///
/// # Errors
/// When a buffer does not hold what `spec` says.
pub fn token_arrays(name: &str, tokens: &Tokens, spec: &TokenSpec) -> Result<Arrays> {
    let n = tokens.len;
    let integers = |v: &[u32]| Data::I64(v.iter().map(|&x| i64::from(x)).collect());
    let floats = |v: &[f32]| Data::F32(v.to_vec());
    let values = match spec.values {
        Values::Continuous { width } => Array::new(vec![n, width], floats(&tokens.values))?,
        Values::Codes { .. } => Array::new(vec![n], integers(&tokens.codes))?,
    };
    let positions = match spec.positions {
        Positions::Index { .. } => Array::new(vec![n], integers(&tokens.indices))?,
        Positions::Continuous { width } => Array::new(vec![n, width], floats(&tokens.positions))?,
    };
    let mut out =
        Arrays::from([(name.to_owned(), values), (format!("{name}_positions"), positions)]);
    if !tokens.affine.is_empty() {
        let affine = Array::new(vec![n, 2], floats(tokens.affine.as_flattened()))?;
        out.insert(format!("{name}_affine"), affine);
    }
    Ok(out)
}

/// The inverse of [`token_arrays`], as far as the model reads tokens: without the affine.
/// Positions that are indices are counted from 0 where there is no array of them.
///
/// # Errors
/// Says which array does not fit `spec`.
pub fn tokens_from(
    name: &str,
    spec: &TokenSpec,
    values: &Array,
    positions: Option<&Array>,
) -> Result<Tokens, String> {
    let len = values.shape.first().copied().unwrap_or(0);
    let mut tokens = Tokens { len, ..Tokens::default() };
    let shape = |array: &Array, width: Option<usize>, what: &str| {
        let expected: Vec<usize> = [len].into_iter().chain(width).collect();
        if array.shape == expected {
            return Ok(());
        }
        Err(format!("{what} of {name} have the shape {:?}, {expected:?} expected", array.shape))
    };
    match spec.values {
        Values::Continuous { width } => {
            shape(values, Some(width), "the tokens")?;
            tokens.values = values.data.to_f32().into_owned().into();
        }
        Values::Codes { .. } => {
            shape(values, None, "the codes")?;
            tokens.codes = whole(&values.data, name)?;
        }
    }
    match (spec.positions, positions) {
        (Positions::Index { .. }, None) => {
            tokens.indices = (0..u32::try_from(len).map_err(|e| e.to_string())?).collect();
        }
        (Positions::Index { .. }, Some(array)) => {
            shape(array, None, "the positions")?;
            tokens.indices = whole(&array.data, name)?;
        }
        (Positions::Continuous { width }, Some(array)) => {
            shape(array, Some(width), "the positions")?;
            tokens.positions = array.data.to_f32().into_owned();
        }
        (Positions::Continuous { .. }, None) => {
            return Err(format!("the positions of {name} are missing"));
        }
    }
    tokens.check(spec).map_err(|e| format!("the tokens of {name}: {e}"))?;
    Ok(tokens)
}

fn whole(data: &Data, name: &str) -> Result<Vec<u32>, String> {
    let wrong = |what: String| format!("{name} holds {what}, which is no index or code");
    match data {
        Data::U8(v) => Ok(v.iter().map(|&x| u32::from(x)).collect()),
        Data::U16(v) => Ok(v.iter().map(|&x| u32::from(x)).collect()),
        Data::I64(v) => {
            v.iter().map(|&x| u32::try_from(x).map_err(|_| wrong(x.to_string()))).collect()
        }
        Data::F32(_) | Data::F64(_) => Err(wrong("floating-point numbers".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_comes_back_and_the_bytes_repeat() {
        let folder = tempfile::tempdir().expect("folder");
        let array = |data: Data| Array::new(vec![1, data.len()], data).expect("fits");
        let arrays = Arrays::from([
            ("a".to_owned(), array(Data::U8(vec![0, 255, 3]))),
            ("b".to_owned(), array(Data::U16(vec![65535, 1]))),
            ("c".to_owned(), array(Data::F32(vec![f32::MIN_POSITIVE]))),
            ("d".to_owned(), array(Data::F64(vec![59_000.123_456_789]))),
            ("e".to_owned(), array(Data::I64(vec![i64::MIN, 1 << 60]))),
        ]);
        let metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        save_arrays(&a, &arrays, &metadata).expect("saved");
        save_arrays(&b, &arrays, &metadata).expect("saved");
        assert_eq!(load_arrays(&a).expect("loaded"), (arrays, metadata));
        let bytes = std::fs::read(&a).expect("read");
        assert_eq!(bytes, std::fs::read(b).expect("read"));
        for cut in 0..bytes.len() {
            std::fs::write(&a, &bytes[..cut]).expect("written");
            assert!(load_arrays(&a).is_err(), "{cut}");
        }
    }

    #[test]
    fn tokens_come_back_and_what_does_not_fit_is_said() {
        let spec = TokenSpec {
            values: Values::Codes { vocabulary: 9 },
            positions: Positions::Continuous { width: 2 },
            loss_weight: 1.0,
            max_tokens: 5,
        };
        let tokens = Tokens {
            len: 2,
            codes: vec![8, 0],
            positions: vec![1.0, 2.0, 3.0, 4.0],
            ..Tokens::default()
        };
        let arrays = token_arrays("m", &tokens, &spec).expect("fits");
        let back =
            |spec: &TokenSpec| tokens_from("m", spec, &arrays["m"], arrays.get("m_positions"));
        assert_eq!(back(&spec), Ok(tokens));
        let small = TokenSpec { values: Values::Codes { vocabulary: 8 }, ..spec.clone() };
        assert!(back(&small).expect_err("beyond").contains("vocabulary of 8"));
        let wide = TokenSpec { positions: Positions::Continuous { width: 3 }, ..spec };
        assert!(back(&wide).expect_err("narrow").contains("[2, 3] expected"));
    }
}
