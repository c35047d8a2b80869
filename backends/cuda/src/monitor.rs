//! What a GPU is doing, by NVIDIA's management library, which comes with the driver.

use astropt_core::seam::{Monitor, Usage};
use nvml_wrapper::Nvml;

/// Asks about the GPU of this UUID, or the part of one.
///
/// # Errors
/// In the library's words, where it cannot be used or does not know the GPU.
pub(crate) fn monitor(uuid: &str) -> Result<Monitor, String> {
    let words = |error: nvml_wrapper::error::NvmlError| {
        error.to_string().replace("a libloading error occurred: ", "")
    };
    let nvml = Nvml::init().map_err(words)?;
    let known = |kind: &str| {
        let name = format!("{kind}-{uuid}");
        nvml.device_by_uuid(name.as_str()).map(|_| name)
    };
    let name = known("GPU").or_else(|_| known("MIG")).map_err(words)?;
    Ok(Box::new(move || {
        let gpu = nvml.device_by_uuid(name.as_str()).ok()?;
        Some(Usage {
            memory_bytes: gpu.memory_info().ok()?.used,
            // Not told of a part of a GPU.
            utilisation: gpu.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
            // Counted from Volta on, in millijoules.
            joules: gpu.total_energy_consumption().ok().map(|count| 1e-3 * count as f64),
        })
    }))
}
