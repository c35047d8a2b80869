//! `astropt plugins` and `astropt recipes`.

use serde::Serialize;

use super::args::RecipesArgs;
use super::output::{Output, columns};
use crate::error::Result;
use crate::recipe::{Request, builtin_recipes, resolve};
use crate::seam::{PluginInfo, backends, modalities, sources};

#[derive(Serialize)]
struct Listed {
    seam: &'static str,
    #[serde(flatten)]
    info: PluginInfo,
}

/// Lists what is linked.
pub(super) fn plugins(output: Output) -> Result<()> {
    let seams = [
        ("modality", modalities().iter().map(|p| p.info).collect::<Vec<_>>()),
        ("source", sources().iter().map(|p| p.info).collect()),
        ("backend", backends().iter().map(|p| p.info).collect()),
    ];
    let listed: Vec<Listed> = seams
        .into_iter()
        .flat_map(|(seam, infos)| infos.into_iter().map(move |info| Listed { seam, info }))
        .collect();
    output.result(&listed, || {
        let row =
            |p: &Listed| vec![p.seam.to_owned(), p.info.kind.to_owned(), p.info.summary.to_owned()];
        columns(&listed.iter().map(row).collect::<Vec<_>>())
    })
}

/// Lists the recipes, or shows one resolved.
pub(super) fn recipes(args: &RecipesArgs, output: Output) -> Result<()> {
    let Some(name) = &args.name else {
        let all = builtin_recipes()?;
        return output.result(&all, || {
            let rows: Vec<_> = all
                .iter()
                .map(|r| {
                    vec![
                        r.name.clone(),
                        r.summary.clone(),
                        format!("scales: {}", r.scales.join(" ")),
                    ]
                })
                .collect();
            columns(&rows)
        });
    };
    let plan = resolve(&Request { dataless: true, ..args.choice.request(name) })?;
    let model = plan.model_config()?;
    output.result(&plan, || {
        format!("# {} parameters\n{}", model.parameter_count(), plan.recipe.trim_end())
    })
}
