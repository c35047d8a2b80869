//! The cost of a training before it has begun.

use serde::{Deserialize, Serialize};

use super::{CostConfig, KILOWATT_HOUR, Memory};
use crate::engine::Precision;
use crate::error::Result;
use crate::progress::duration;
use crate::recipe::Plan;

/// What training one model will cost on the devices of `[cost]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Scale of the recipe, if it has scales.
    pub scale: Option<String>,
    /// Parameters, position tables not counted, as in the paper.
    pub parameters: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens of all steps, of objects that have as many as they may.
    pub tokens: f64,
    /// 6 N D: the paper's measure, in FLOP, attention not counted.
    pub flops: f64,
    /// Of attention, with each causal product counted once, in FLOP.
    pub attention_flops: f64,
    /// Memory of one device while it trains: parameters and optimiser, and what a
    /// micro-batch keeps for backward, in bytes.
    pub memory_bytes: f64,
    /// Whether that fits `device_memory`.
    pub fits: bool,
    /// What training multiplies in.
    #[serde(default)]
    pub precision: Precision,
    /// Whether training runs forward again in backward, which takes a third more operations.
    #[serde(default)]
    pub recompute: bool,
    /// Micro-batches of a step: what devices share; 0 in forecasts of earlier versions.
    #[serde(default)]
    pub micro_batches: usize,
    /// Time on all devices, in hours.
    pub hours: f64,
    /// Energy at the meter, in kilowatt-hours.
    pub energy_kwh: f64,
    /// Carbon dioxide, in kilograms.
    pub co2_kg: f64,
}

impl Forecast {
    /// The cost of `plan`.
    ///
    /// # Errors
    /// When its model contradicts itself.
    pub fn of(plan: &Plan) -> Result<Self> {
        Self::in_precision(plan, plan.train.precision)
    }

    /// The same, were it trained in `precision`.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub(crate) fn in_precision(plan: &Plan, precision: Precision) -> Result<Self> {
        let model = plan.model_config()?;
        let cost = &plan.cost;
        let (layers, d) = (model.layers as f64, model.width as f64);
        // The last token of a row is a target and no input.
        let row: usize = model.modalities.values().map(|spec| spec.max_tokens).sum();
        let row = row as f64;
        let tokens = plan.train.steps as f64 * plan.train.batch as f64 * row;
        let parameters = model.parameter_count();
        let flops = 6.0 * parameters as f64 * tokens;
        // Scores and averages are two products of 2 d T FLOP a token and block, half of them
        // masked, and backward costs twice as much again.
        let attention_flops = 3.0 * 2.0 * layers * d * row * tokens;
        let train = &plan.train;
        let memory = Memory::of(&model, train, train.micro_batch, train.recompute);
        let memory_bytes = memory.on_device();
        // A device works on whole micro-batches, and one that gets none does nothing.
        let micro_batches = (train.batch / train.micro_batch).max(1);
        let devices = cost.devices.min(micro_batches);
        let rounds = micro_batches.div_ceil(devices);
        // Running forward again in backward is a third of it once more.
        let again = if train.recompute { 4.0 / 3.0 } else { 1.0 };
        let one = again * (flops + attention_flops) / (cost.peak(precision) * cost.utilisation);
        let seconds = one * rounds as f64 / micro_batches as f64;
        let watts = cost.device_watts * devices as f64 * cost.overhead;
        let joules = seconds * watts;
        Ok(Self {
            scale: plan.scale.clone(),
            parameters,
            steps: plan.train.steps,
            tokens,
            flops,
            attention_flops,
            memory_bytes,
            fits: memory_bytes <= cost.device_memory,
            precision,
            recompute: train.recompute,
            micro_batches,
            hours: seconds / 3600.0,
            energy_kwh: joules / KILOWATT_HOUR,
            co2_kg: cost.carbon(joules),
        })
    }

    /// Operations, time, energy and carbon, in words.
    pub(crate) fn in_words(&self) -> String {
        format!(
            "{:.2e} FLOP (6ND), {}{}, {:.2e} kWh, {:.2e} kg CO2",
            self.flops,
            duration(3600.0 * self.hours),
            if self.recompute { " (a quarter of them for train.recompute)" } else { "" },
            self.energy_kwh,
            self.co2_kg
        )
    }
}

/// What stands beside forecasts of trainings in `precision`: the assumptions, as one sentence.
pub(crate) fn assumptions(cost: &CostConfig, precision: Precision) -> String {
    let without = match &cost.leaves_out {
        nothing if nothing.is_empty() => String::new(),
        what => format!(". Not in the forecast: {what}"),
    };
    format!(
        "assumed, in [cost]: {} x {} at {:.0}% of {} TFLOP/s in {} and {:.0} W each, times {} for \
         the building; {} g CO2 per kWh. The hours count attention's own operations, which 6ND \
         leaves out{without}",
        cost.devices,
        cost.device,
        100.0 * cost.utilisation,
        cost.peak(precision) / 1e12,
        precision.name(),
        cost.device_watts,
        cost.overhead,
        cost.grid
    )
}

/// What stands after the [`assumptions`] of a training on `device`, as a sentence; nothing where it
/// is the device that they are of.
pub(crate) fn computes_on(cost: &CostConfig, device: &str) -> String {
    match cost.device == device {
        true => String::new(),
        false => {
            format!(". This run computes on {device}; what is left there is told as it trains")
        }
    }
}

/// Which of the devices of `cost` have nothing to do, if any, in words.
pub(crate) fn idle(all: &[Forecast], cost: &CostConfig) -> Option<String> {
    let most = all.iter().map(|of| of.micro_batches).max().filter(|most| *most > 0)?;
    (cost.devices > most).then(|| {
        format!(
            "of {} devices {} have nothing to do: a step has {most} micro-batches (train.batch / \
             train.micro_batch), and the forecast is for {most} devices",
            cost.devices,
            cost.devices - most
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_beyond_the_micro_batches_do_nothing() {
        let of = |micro_batches| Forecast {
            scale: None,
            parameters: 1,
            steps: 1,
            tokens: 1.0,
            flops: 1.0,
            attention_flops: 0.0,
            memory_bytes: 1.0,
            fits: true,
            precision: Precision::F32,
            recompute: false,
            micro_batches,
            hours: 1.0,
            energy_kwh: 1.0,
            co2_kg: 1.0,
        };
        let cost = |devices| CostConfig { devices, ..CostConfig::default() };
        assert_eq!(idle(&[of(40)], &cost(40)), None);
        let said = idle(&[of(20), of(40)], &cost(1000)).expect("too many");
        assert!(
            said.contains("of 1000 devices 960") && said.contains("40 micro-batches"),
            "{said}"
        );
        assert_eq!(idle(&[of(0)], &cost(1000)), None, "of an earlier version nothing is known");
        let said = assumptions(&cost(2), Precision::F32);
        assert!(said.contains("66.9 TFLOP/s in f32"), "{said}");
        assert!(assumptions(&cost(2), Precision::Bf16).contains("989.4 TFLOP/s in bf16"));
    }

    #[test]
    fn a_training_elsewhere_than_forecast_is_told_where() {
        let cost = CostConfig::default();
        assert_eq!(computes_on(&cost, &cost.device), "");
        let said = computes_on(&cost, "AMD EPYC, 2 threads");
        assert!(said.starts_with(". This run computes on AMD EPYC, 2 threads;"), "{said}");
    }
}
