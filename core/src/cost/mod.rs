//! What a training costs: operations, time, memory, energy, carbon.
//!
//! [`Forecast`] says it beforehand from a plan alone; [`Meter`] measures energy while the work
//! is done, where the machine has a counter for it, and says when it has to fall back on a
//! model of the power drawn. What both assume stands in the recipe's `[cost]`.

mod forecast;
mod machine;
mod memory;
mod meter;

use serde::{Deserialize, Serialize};

pub use forecast::Forecast;
pub(crate) use forecast::{assumptions, computes_on, idle};
pub use machine::{among_processes, available_memory};
pub use memory::Memory;
pub(crate) use memory::{check as check_memory, exhausted};
pub use meter::{Energy, Meter};

use crate::engine::Precision;

/// Joules in a kilowatt-hour.
pub(crate) const KILOWATT_HOUR: f64 = 3.6e6;

/// `[cost]`: the device that a forecast is for, and what energy stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CostConfig {
    /// Name of the device that forecasts are for.
    pub device: String,
    /// How many of them train side by side.
    pub devices: usize,
    /// Peak of one device in bf16, in FLOP/s. By default an H100 SXM's tensor cores, dense: 989.4
    /// TFLOP/s (NVIDIA, H100 Tensor Core GPU Architecture, table 2; the data sheet has twice
    /// that, for sparse factors).
    pub peak_flops: f64,
    /// Peak of one device in f32, in FLOP/s. By default an H100 SXM's without its tensor cores:
    /// 66.9 TFLOP/s (the same table; 67 in the data sheet).
    pub peak_flops_f32: f64,
    /// Share of the peak that training reaches (model FLOPs utilisation).
    pub utilisation: f64,
    /// Power of one device at work, in watts. By default the H100 SXM's design power.
    pub device_watts: f64,
    /// Memory of one device, in bytes.
    pub device_memory: f64,
    /// Energy at the meter per energy of the devices: cooling and losses. By default the
    /// average of data centres in 2023 (Uptime Institute, Global Data Center Survey 2023).
    pub overhead: f64,
    /// Power of one busy processor core, in watts: for measurements where the machine has no
    /// energy counter.
    pub core_watts: f64,
    /// What forecasts of time and energy leave out, which is said beside them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub leaves_out: String,
    /// Carbon dioxide per energy from the grid, in grams per kilowatt-hour. By default the
    /// world's average of 2023 (Ember, Global Electricity Review 2024).
    pub grid: f64,
}

impl Default for CostConfig {
    fn default() -> Self {
        Self {
            device: "H100 SXM".into(),
            devices: 1,
            peak_flops: 989.4e12,
            peak_flops_f32: 66.9e12,
            utilisation: 0.4,
            device_watts: 700.0,
            device_memory: 80e9,
            overhead: 1.58,
            core_watts: 10.0,
            leaves_out: String::new(),
            grid: 480.0,
        }
    }
}

impl CostConfig {
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.devices == 0 {
            return Err(("devices", "must be at least 1".into()));
        }
        let positive = [
            ("peak_flops", self.peak_flops),
            ("peak_flops_f32", self.peak_flops_f32),
            ("utilisation", self.utilisation),
            ("device_watts", self.device_watts),
            ("device_memory", self.device_memory),
            ("overhead", self.overhead),
        ];
        for (key, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err((key, format!("is {value}; it must be above 0")));
            }
        }
        if self.utilisation > 1.0 {
            return Err(("utilisation", format!("is {}; it is a share", self.utilisation)));
        }
        for (key, value) in [("grid", self.grid), ("core_watts", self.core_watts)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err((key, format!("is {value}; it must be 0 or more")));
            }
        }
        Ok(())
    }

    /// Peak of one device in `precision`, in FLOP/s.
    pub fn peak(&self, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => self.peak_flops_f32,
            Precision::Bf16 => self.peak_flops,
        }
    }

    /// Kilograms of carbon dioxide for `joules` at the meter.
    pub fn carbon(&self, joules: f64) -> f64 {
        joules / KILOWATT_HOUR * self.grid / 1000.0
    }
}
