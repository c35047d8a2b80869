//! `astropt tokenise`: one object's tokens and positions, as the model reads them.

use serde::Serialize;

use super::args::TokeniseArgs;
use super::output::Output;
use crate::checkpoint::write_bytes;
use crate::error::{Error, Result};
use crate::recipe::{Request, resolve};
use crate::tokens::{Positions, TokenSpec, Tokens, Values};

#[derive(Serialize)]
struct Written {
    object: String,
    modality: String,
    tokens: usize,
    width: usize,
}

/// Writes, per modality M, `M` (values `[tokens, width]`, or codes `[tokens]`),
/// `M_positions`, and `M_affine` `[tokens, 2]` where each token was standardised.
pub(super) fn tokenise(args: &TokeniseArgs, output: Output) -> Result<()> {
    let plan = resolve(&Request {
        recipe: args.recipe.clone(),
        scale: args.scale.clone(),
        data: Some(args.file.clone()),
        set: args.set.clone(),
        dataless: false,
    })?;
    let source = plan.source.open(std::path::Path::new("."))?;
    if source.len() != 1 {
        return Err(Error::Misuse(format!(
            "{} holds {} objects; give the file of one",
            args.file.display(),
            source.len()
        )));
    }
    let observation = source.read(0)?;
    let mut tensors = Vec::new();
    let mut written = Vec::new();
    for (name, modality) in plan.build_modalities()? {
        let Some(tokens) = modality.tokenise(&observation)? else { continue };
        let spec = modality.spec();
        tokens.check(&spec).map_err(|e| Error::object(&observation.id, format!("{name}: {e}")))?;
        written.push(Written {
            object: observation.id.clone(),
            modality: name.clone(),
            tokens: tokens.len,
            width: tokens.values.len() / tokens.len,
        });
        tensors.extend(named_tensors(&name, &tokens, &spec));
    }
    if tensors.is_empty() {
        return Err(Error::object(&observation.id, "it has none of the recipe's modalities"));
    }
    let bytes = serialise(&tensors)?;
    write_bytes(&args.out, &bytes)?;
    for line in &written {
        output.result(line, || {
            format!("{}: {} {} tokens of {}", line.object, line.tokens, line.modality, line.width)
        })?;
    }
    Ok(())
}

/// A tensor's name, type, shape and little-endian bytes.
type Named = (String, safetensors::Dtype, Vec<usize>, Vec<u8>);

fn named_tensors(name: &str, tokens: &Tokens, spec: &TokenSpec) -> Vec<Named> {
    use safetensors::Dtype::{F32, I64};
    let n = tokens.len;
    let floats = |data: &[f32]| data.iter().flat_map(|v| v.to_le_bytes()).collect();
    let integers = |data: &[u32]| data.iter().flat_map(|&v| i64::from(v).to_le_bytes()).collect();
    let mut out = vec![match spec.values {
        Values::Continuous { width } => (name.into(), F32, vec![n, width], floats(&tokens.values)),
        Values::Codes { .. } => (name.into(), I64, vec![n], integers(&tokens.codes)),
    }];
    let positions = format!("{name}_positions");
    out.push(match spec.positions {
        Positions::Index { .. } => (positions, I64, vec![n], integers(&tokens.indices)),
        Positions::Continuous { width } => {
            (positions, F32, vec![n, width], floats(&tokens.positions))
        }
    });
    if !tokens.affine.is_empty() {
        let affine = floats(tokens.affine.as_flattened());
        out.push((format!("{name}_affine"), F32, vec![n, 2], affine));
    }
    out
}

fn serialise(tensors: &[Named]) -> Result<Vec<u8>> {
    let failed = |e: safetensors::SafeTensorError| {
        Error::Failed(format!("cannot write the tokens as safetensors: {e}"))
    };
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes);
        view.map(|view| (name.as_str(), view))
    });
    let views = views.collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
    safetensors::serialize(views, None).map_err(failed)
}
