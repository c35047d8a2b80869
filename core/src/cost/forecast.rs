//! The cost of a training before it has begun.

use serde::{Deserialize, Serialize};

use super::{CostConfig, KILOWATT_HOUR, Memory};
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
        let rate = cost.peak_flops * cost.utilisation * cost.devices as f64;
        let seconds = (flops + attention_flops) / rate;
        let watts = cost.device_watts * cost.devices as f64 * cost.overhead;
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
            hours: seconds / 3600.0,
            energy_kwh: joules / KILOWATT_HOUR,
            co2_kg: cost.carbon(joules),
        })
    }

    /// Operations, time, energy and carbon, in words.
    pub(crate) fn in_words(&self) -> String {
        format!(
            "{:.2e} FLOP (6ND), {}, {:.2e} kWh, {:.2e} kg CO2",
            self.flops,
            duration(3600.0 * self.hours),
            self.energy_kwh,
            self.co2_kg
        )
    }
}

/// What stands beside forecasts: the assumptions, as one sentence.
pub(crate) fn assumptions(cost: &CostConfig) -> String {
    format!(
        "assumed, in [cost]: {} x {} at {:.0}% of {} TFLOP/s and {:.0} W each, times {} for \
         the building; {} g CO2 per kWh. The hours count attention's own operations, which 6ND \
         leaves out",
        cost.devices,
        cost.device,
        100.0 * cost.utilisation,
        cost.peak_flops / 1e12,
        cost.device_watts,
        cost.overhead,
        cost.grid
    )
}
