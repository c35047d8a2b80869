//! From arguments to plans and data.

use std::path::Path;
use std::sync::Arc;

use super::args::RecipeArgs;
use crate::data::Dataset;
use crate::error::Result;
use crate::recipe::{DEMO, Plan, Request};

impl RecipeArgs {
    /// What these arguments ask of the recipe `name`.
    pub(super) fn request(&self, name: &str) -> Request {
        let demo = self.demo.then(|| DEMO.to_owned());
        Request {
            recipe: name.to_owned(),
            scale: self.scale.clone().or(demo),
            data: self.data.clone(),
            set: self.set.clone(),
            dataless: false,
        }
    }

    /// The same, with data that will not be opened and nothing changed by `--set`.
    pub(super) fn request_dataless(&self, name: &str) -> Request {
        Request { data: None, set: Vec::new(), dataless: true, ..self.request(name) }
    }
}

/// Opens the data of `plan`; relative paths start at the working folder.
pub(super) fn open(plan: &Plan) -> Result<Arc<Dataset>> {
    Dataset::open(plan, Path::new(".")).map(Arc::new)
}
