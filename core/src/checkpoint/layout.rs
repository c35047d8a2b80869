//! Names of parameters in the three layouts of the Python AstroPT.
//!
//! | ours | 3.x | 2.x | 2024, one modality, `images` |
//! |---|---|---|---|
//! | `encoders.M.…` | same | `transformer.wte.M.…` | `transformer.wte.…` |
//! | `embedders.M.…` | same | `transformer.wpe.M.…` | `transformer.wpe.weight` |
//! | `decoders.M.…` | same | `lm_head.M.…` | `lm_head.…` |
//! | `transformer.{h.N,ln_f}.…` | same | same | same |

use serde::{Deserialize, Serialize};

use crate::engine::StateDict;

/// Name of the one modality of the 2024 layout.
pub const IMAGES: &str = "images";
/// What `torch.compile` puts before every name.
const COMPILED: &str = "_orig_mod.";

/// How a version of the Python program names its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// June 2024, the paper's.
    V1,
    /// 2.x.
    V2,
    /// 3.x, and this program's own.
    V3,
}

impl Layout {
    /// What `--to` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "astropt-1",
            Self::V2 => "astropt-2",
            Self::V3 => "astropt-3",
        }
    }

    /// The layout that these parameter names are of; `None` when they are of none.
    pub fn detect<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut found = None;
        for name in names {
            let name = plain(name);
            if name.starts_with("encoders.") || name.starts_with("decoders.") {
                return Some(Self::V3);
            } else if name == "transformer.wpe.weight" {
                return Some(Self::V1);
            } else if name.starts_with("transformer.wte.") {
                found = Some(Self::V2);
            }
        }
        found
    }

    /// Beginnings of names here and in this program, for encoders, embedders and decoders.
    fn prefixes(self) -> [(&'static str, String); 3] {
        let ours = |prefix: &str| match self {
            Self::V1 => format!("{prefix}.{IMAGES}."),
            _ => format!("{prefix}."),
        };
        let [encoders, decoders] = [ours("encoders"), ours("decoders")];
        match self {
            // The table of positions has one more level in later versions.
            Self::V1 => [
                ("transformer.wte.", encoders),
                ("transformer.wpe.", ours("embedders") + "wpe."),
                ("lm_head.", decoders),
            ],
            Self::V2 => [
                ("transformer.wte.", encoders),
                ("transformer.wpe.", ours("embedders")),
                ("lm_head.", decoders),
            ],
            Self::V3 => [
                ("encoders.", encoders),
                ("embedders.", ours("embedders")),
                ("decoders.", decoders),
            ],
        }
    }

    /// This program's name for the parameter that the layout calls `theirs`.
    pub fn our_name(self, theirs: &str) -> String {
        let theirs = plain(theirs);
        for (prefix, ours) in self.prefixes() {
            if let Some(rest) = theirs.strip_prefix(prefix) {
                return ours + rest;
            }
        }
        theirs.to_owned()
    }

    /// The layout's name for the parameter that this program calls `ours`.
    pub fn python_name(self, ours: &str) -> String {
        for (prefix, start) in self.prefixes() {
            if let Some(rest) = ours.strip_prefix(&start) {
                return prefix.to_owned() + rest;
            }
        }
        ours.to_owned()
    }

    /// `tensors` under this program's names.
    pub fn rename(self, tensors: StateDict) -> StateDict {
        tensors.into_iter().map(|(name, tensor)| (self.our_name(&name), tensor)).collect()
    }
}

/// A parameter's name without what compiling put before it.
fn plain(name: &str) -> &str {
    name.strip_prefix(COMPILED).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_map_both_ways_in_every_layout() {
        let cases = [
            (Layout::V1, "transformer.wte.0.bias", "encoders.images.0.bias"),
            (Layout::V1, "transformer.wpe.weight", "embedders.images.wpe.weight"),
            (Layout::V1, "lm_head.4.weight", "decoders.images.4.weight"),
            (Layout::V2, "transformer.wte.a.c_fc.weight", "encoders.a.c_fc.weight"),
            (Layout::V2, "transformer.wpe.a.wpe.weight", "embedders.a.wpe.weight"),
            (Layout::V2, "lm_head.a.c_fc.weight", "decoders.a.c_fc.weight"),
            (Layout::V3, "decoders.a.c_fc.weight", "decoders.a.c_fc.weight"),
            (Layout::V1, "transformer.h.0.ln_1.weight", "transformer.h.0.ln_1.weight"),
        ];
        for (layout, theirs, ours) in cases {
            assert_eq!(layout.our_name(theirs), ours);
            assert_eq!(layout.our_name(&format!("_orig_mod.{theirs}")), ours);
            assert_eq!(layout.python_name(ours), theirs);
        }
    }

    #[test]
    fn layouts_are_told_apart_and_foreign_names_are_none() {
        let detect = |name: &str| Layout::detect([name, "transformer.ln_f.weight"]);
        assert_eq!(detect("_orig_mod.transformer.wpe.weight"), Some(Layout::V1));
        assert_eq!(detect("transformer.wte.images.c_fc.weight"), Some(Layout::V2));
        assert_eq!(detect("encoders.images.c_fc.weight"), Some(Layout::V3));
        assert_eq!(detect("gpt_neox.embed_in.weight"), None);
    }
}
