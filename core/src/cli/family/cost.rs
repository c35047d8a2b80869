//! What a family will cost.

use std::path::Path;

use super::super::args::FamilyArgs;
use super::super::chosen::linked;
use super::super::output::{Output, columns};
use super::members::finished;
use super::plans::by_settings;
use crate::cost::{Forecast, assumptions, computes_on, idle};
use crate::engine::Precision;
use crate::error::Result;
use crate::family::{Family, Settings};
use crate::figures::format::significant;
use crate::progress::{self, quantity};
use crate::recipe::{self, Plan, resolve};

/// `--plan`: what the family, or the one model, would cost.
pub(in super::super) fn forecast(
    args: &FamilyArgs,
    names: &[String],
    output: Output,
) -> Result<()> {
    linked(&args.train.device)?;
    let plans = match names {
        [] => {
            let recipe = args.train.recipe.as_deref().unwrap_or_default();
            let choice = &args.train.choice;
            let request =
                recipe::Request { dataless: choice.data.is_none(), ..choice.request(recipe) };
            vec![resolve(&request)?]
        }
        names => {
            let choice = &args.train.choice;
            let settings = Settings {
                recipe: args.train.recipe.clone().unwrap_or_default(),
                data: choice.data.clone(),
                set: choice.set.clone(),
                ..Settings::default()
            };
            by_settings(&settings, names, choice.data.is_none())?
        }
    };
    let all: Vec<Forecast> = plans.iter().map(Forecast::of).collect::<Result<_>>()?;
    let cost = &plans[0].cost;
    let result = serde_json::json!({ "models": all, "assumed": cost });
    if let Some(idle) = idle(&all, cost) {
        progress::warn(&idle);
    }
    let reference = plans[0].reference.stated().filter(|_| all.len() > 1);
    let published = reference.and_then(|of| {
        Some(format!("published: {} kg CO2 for all models of {}", of.co2_kg?, of.source))
    });
    let faster = in_bf16(&plans)?;
    output.result(&result, || {
        let lines = [table(&all), assumptions(cost, plans[0].train.precision)];
        let lines = lines.into_iter().chain(faster).chain(published);
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// What all would cost in bf16, where they are to be trained in f32 and it makes a difference.
fn in_bf16(plans: &[Plan]) -> Result<Option<String>> {
    let all: Vec<Forecast> = plans
        .iter()
        .map(|plan| Forecast::in_precision(plan, Precision::Bf16))
        .collect::<Result<_>>()?;
    let cost = &plans[0].cost;
    let same = cost.peak(Precision::F32) >= cost.peak(Precision::Bf16);
    if same || plans.iter().any(|plan| plan.train.precision == Precision::Bf16) {
        return Ok(None);
    }
    let sum = |of: fn(&Forecast) -> f64| number(all.iter().map(of).sum());
    Ok(Some(format!(
        "with --set train.precision=bf16, for backends that know it: {} hours, {} kWh and {} kg CO2 \
         in all, at {:.0}% of {} TFLOP/s",
        sum(|f| f.hours),
        sum(|f| f.energy_kwh),
        sum(|f| f.co2_kg),
        100.0 * cost.utilisation,
        cost.peak(Precision::Bf16) / 1e12
    )))
}

fn number(x: f64) -> String {
    match x {
        x if x >= 100.0 => format!("{x:.0}"),
        x if x >= 1.0 => format!("{x:.1}"),
        x => significant(x, 2),
    }
}

fn table(all: &[Forecast]) -> String {
    let heading = [
        "scale",
        "parameters",
        "steps",
        "tokens",
        "6ND FLOP",
        "memory a device",
        "hours",
        "kWh",
        "kg CO2",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for f in all {
        let memory = match f.memory_bytes {
            bytes if bytes < 1e8 => format!("{:.0} MB", bytes / 1e6),
            bytes => format!("{:.1} GB", bytes / 1e9),
        };
        let memory = memory + if f.fits { "" } else { " (too much)" };
        rows.push(vec![
            f.scale.clone().unwrap_or_else(|| "-".into()),
            quantity(f.parameters as f64),
            f.steps.to_string(),
            quantity(f.tokens),
            quantity(f.flops),
            memory,
            number(f.hours),
            number(f.energy_kwh),
            number(f.co2_kg),
        ]);
    }
    if all.len() > 1 {
        let sum = |of: fn(&Forecast) -> f64| all.iter().map(of).sum::<f64>();
        let mut row =
            vec!["all".to_owned(), String::new(), String::new(), quantity(sum(|f| f.tokens))];
        row.push(quantity(sum(|f| f.flops)));
        row.push(String::new());
        row.extend([sum(|f| f.hours), sum(|f| f.energy_kwh), sum(|f| f.co2_kg)].map(number));
        rows.push(row);
    }
    columns(&rows)
}

/// Says before models are trained, the first of them on `device`, what those that are not yet will
/// cost.
pub(super) fn say(
    family: &Family,
    plans: &[Plan],
    out: &Path,
    anew: bool,
    device: Option<&str>,
) -> Result<()> {
    let mut due = Vec::new();
    for (member, plan) in family.members.iter().zip(plans) {
        if anew || finished(&out.join(&member.scale), plan)?.is_none() {
            due.push(Forecast::of(plan)?);
        }
    }
    if let ([_, ..], Some(plan)) = (&due[..], plans.first()) {
        let assumed = assumptions(&plan.cost, plan.train.precision);
        let here = device.map(|device| computes_on(&plan.cost, device)).unwrap_or_default();
        progress::say(&format!("forecast:\n{}\n{assumed}{here}", table(&due)));
        if let Some(idle) = idle(&due, &plan.cost) {
            progress::warn(&idle);
        }
    }
    Ok(())
}
