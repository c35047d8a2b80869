//! `astropt tokenise`: one object's tokens and positions, as the model reads them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::TokeniseArgs;
use super::output::Output;
use crate::checkpoint::arrays::{Arrays, save_arrays, token_arrays};
use crate::checkpoint::files::nothing_there;
use crate::checkpoint::format;
use crate::data::why_lacking;
use crate::error::{Error, Result};
use crate::progress;
use crate::recipe::{Request, resolve};

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
    let mut arrays = Arrays::new();
    let mut written = Vec::new();
    for (name, modality) in plan.build_modalities()? {
        let Some(tokens) = modality.tokenise(&observation)? else {
            let names = observation.fields.keys().chain(observation.labels.keys()).cloned();
            let why = why_lacking(modality.as_ref(), &names.collect());
            let id = &observation.id;
            progress::warn(&format!("the object {id} has nothing of modality.{name}: {why}"));
            continue;
        };
        let spec = modality.spec();
        tokens.check(&spec).map_err(|e| Error::object(&observation.id, format!("{name}: {e}")))?;
        written.push(Written {
            object: observation.id.clone(),
            modality: name.clone(),
            tokens: tokens.len,
            width: tokens.values.len() / tokens.len,
        });
        arrays.extend(token_arrays(&name, &tokens, &spec)?);
    }
    if arrays.is_empty() {
        return Err(Error::object(&observation.id, "it has none of the recipe's modalities"));
    }
    let metadata = BTreeMap::from([(format::KEY.to_owned(), format::FORMAT.to_string())]);
    nothing_there(&args.out)?;
    save_arrays(&args.out, &arrays, &metadata)?;
    for line in &written {
        output.result(line, || {
            format!("{}: {} {} tokens of {}", line.object, line.tokens, line.modality, line.width)
        })?;
    }
    Ok(())
}
