//! How CubeCL behaves in this program.

use std::path::PathBuf;
use std::sync::Once;

use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig};

/// Settles CubeCL's settings, once, before a device is opened: what it has tuned and compiled is
/// kept between runs, in the user's cache folder. A `cubecl.toml` of the user's own goes first.
///
/// The backend does so itself; what computes on [`CudaPlatform`](crate::CudaPlatform) without it
/// does so first, for CubeCL takes no settings any more once a device was used.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        if matches!(config.autotune.cache, CacheConfig::Target) {
            config.autotune.cache = CacheConfig::File(folder());
        }
        config.compilation.cache.get_or_insert_with(|| CacheConfig::File(folder()));
        CubeClRuntimeConfig::set(config);
    });
}

/// `$XDG_CACHE_HOME/astropt` or `$HOME/.cache/astropt`, or a folder for temporary files.
fn folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("astropt")
}
