//! What a GPU is doing, by NVIDIA's management library, which comes with the driver.

use astropt_core::seam::{Monitor, Usage};
use nvml_wrapper::Nvml;

/// Asks about the GPU of this UUID; none where the library does not know it.
pub(crate) fn monitor(uuid: String) -> Option<Monitor> {
    let nvml = Nvml::init().ok()?;
    nvml.device_by_uuid(uuid.as_str()).ok()?;
    Some(Box::new(move || {
        let gpu = nvml.device_by_uuid(uuid.as_str()).ok()?;
        Some(Usage {
            memory_bytes: gpu.memory_info().ok()?.used,
            utilisation: f64::from(gpu.utilization_rates().ok()?.gpu) / 100.0,
            // Counted from Volta on, in millijoules.
            joules: gpu.total_energy_consumption().ok().map(|count| 1e-3 * count as f64),
        })
    }))
}
